"""When the attribution term of a method begins within a `fit`."""

import math
import warnings
from typing import Any

import keras


class Begin(keras.callbacks.Callback):
    """Counts the epochs and steps of a `fit`, and tells whether the attribution term has begun.

    It also refuses a `fit` that has no data. Callbacks that keep the best loss start anew when the term begins, since
    the loss then has one term more and cannot be compared with the loss before.

    Args:
        begin: `begin` of the method.
        watched: Names in the history that change their meaning when the term begins.
        callbacks: The other callbacks of the `fit`.
    """

    def __init__(self, begin: int | float, watched: set[str], callbacks: list[Any]):
        super().__init__()
        self.begin = begin
        self._monitors = [c for c in callbacks if getattr(c, "monitor", None) in watched]
        self._best: list[Any] | None = None  # what they started with, if they have seen an epoch before the term
        self.epoch, self.trained, self._step, self._begun = 0, False, 0, False

    def has_begun(self) -> bool:
        """Whether the term takes part in the next step."""
        epoch, step = self._start()
        return (self.epoch, self._step) >= (epoch, step)

    def count(self, steps: int) -> None:
        """Note that so many steps have run."""
        self._begun |= self.has_begun()
        self._step += steps
        self.trained = True

    def _start(self) -> tuple[int, int]:
        """The epoch and the step within it that the term begins with."""
        if isinstance(self.begin, int):
            return self.begin, 0
        epochs, steps = self.params["epochs"], self.params.get("steps")
        if steps is None:  # of a data set of unknown length: with the next epoch
            return math.ceil(self.begin * epochs), 0
        return divmod(math.ceil(self.begin * epochs * steps), steps)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch, self._step = epoch, 0
        if not self.has_begun():
            if self._best is None:  # some versions of Keras set `best` only when training begins
                self._monitors = [monitor for monitor in self._monitors if hasattr(monitor, "best")]
                self._best = [monitor.best for monitor in self._monitors]
        elif self._best is not None:
            for monitor, best in zip(self._monitors, self._best, strict=True):
                monitor.best = best
                if hasattr(monitor, "wait"):
                    monitor.wait = 0
            self._best = None

    def on_train_end(self, logs: Any = None) -> None:
        if self.trained and not self._begun:
            warnings.warn(
                f"The attribution term never began in this `fit`: begin={self.begin}, and the training ended before. "
                "It was adversarial training, and no map was trained.",
                RuntimeWarning,
                stacklevel=2,
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.trained:
            raise ValueError("`x` must hold at least one batch. Received: an empty data set")
