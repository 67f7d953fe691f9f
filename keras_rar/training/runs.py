"""A training in stages that is kept after every epoch, and that goes on from there."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_rar.training.folders import Folder
from keras_rar.training.kept_callbacks import CallbackStates
from keras_rar.training.sources import Source


class Run:
    """What is kept of a training.

    Args:
        folder: Where; `None` for nowhere.
        stages: Names of the stages, one after the other.
        settings: What the network is trained with.
        network: The network that is trained.
        source: Where the batches come from.

    Raises:
        ValueError: If the folder is that of another run, or a file in it is damaged.
    """

    def __init__(
        self,
        folder: str | Path | None,
        stages: Sequence[str],
        settings: dict[str, Any],
        network: keras.Model,
        source: Source,
    ):
        self.source = source
        self.seconds = 0.0
        self.history: list[dict[str, list[float]]] = [{} for _ in stages]
        self.skipped = [0 for _ in stages]
        self._stopped = False
        self._callbacks: tuple[list[dict[str, Any]], dict[str, np.ndarray]] = ([], {})
        self._folder = None
        if folder is not None:
            settings = {**settings, "data": source.description()}
            self._folder = Folder(folder, stages, settings, network)
            if self._folder.epoch:
                about, arrays = self._folder.read()
                self.seconds, self.history, self.skipped = about["seconds"], about["history"], about["skipped"]
                self._stopped, source.digests = about["stopped"], about["digests"]
                self._callbacks = about["callbacks"], arrays

    def epochs_done(self, stage: int) -> int | None:
        """How many epochs of a stage are kept; `None` if it is finished."""
        if self._folder is None or stage > self._folder.stage:
            return 0
        reached = self._folder.epoch
        return None if stage < self._folder.stage or isinstance(reached, str) else reached

    def fit(
        self,
        model: keras.Model,
        stage: int,
        *,
        first: int,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **options: Any,
    ) -> None:
        """Fit a stage: so many epochs, the first of which is number `first` of the source.

        What finished epochs left is loaded: weights, state of the optimizer, seeds, callbacks; and the data go on.
        Of a finished stage, everything is loaded if it is the last one that was reached; otherwise nothing is done.
        """
        done = self.epochs_done(stage)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)  # or its state would not be loaded
        goes_on = self._folder is not None and stage == self._folder.stage and done != 0
        if goes_on:
            self._folder.load(model)  # type: ignore[union-attr]
        if done is None:
            return
        watch = _EveryEpoch(self, stage, callbacks, self._callbacks if goes_on else None)
        done = epochs if goes_on and self._stopped else done  # a callback had stopped it
        model.fit(
            **self.source.start(first + done),
            **{"initial_epoch": done, "epochs": epochs, "shuffle": False},
            callbacks=[*callbacks, watch],
            **options,
        )
        self._stopped, self._callbacks = False, ([], {})
        self.save(model, stage, "finished")  # `fit` may have put in averages, or a callback the best weights

    def end_epoch(self, model: keras.Model, stage: int, epoch: int, logs: dict[str, Any], states: Any) -> None:
        """Keep what an epoch left."""
        for name, value in logs.items():
            self.history[stage].setdefault(name, []).append(float(value))
        self.source.end_epoch()
        self._stopped, self._callbacks = bool(model.stop_training), states
        self.save(model, stage, epoch)

    def save(self, model: keras.Model, stage: int, epoch: int | str) -> None:
        """Keep the state of now, if there is a folder."""
        self.skipped[stage] = model.skipped_updates
        if self._folder is not None:
            about = {"seconds": self.seconds, "history": self.history, "skipped": self.skipped}
            about |= {"stopped": self._stopped, "digests": self.source.digests, "callbacks": self._callbacks[0]}
            self._folder.write(model, stage, epoch, about, self._callbacks[1])


class _EveryEpoch(keras.callbacks.Callback):
    """Takes the time of each epoch, and keeps what it left; the last callback, so that the others are kept too."""

    def __init__(self, run: Run, stage: int, callbacks: Sequence[Any], kept: Any):
        super().__init__()
        self.run, self.stage, self.kept = run, stage, kept
        self.states = CallbackStates(callbacks)
        self._start = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self.states.begin()
        if self.kept is not None:
            self.states.restore(*self.kept)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()
        self.run.source.begin_epoch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.run.seconds += time.perf_counter() - self._start
        self.run.end_epoch(self.model, self.stage, epoch + 1, logs or {}, self.states.changed())
