"""Training as the fast recipe does it: phases under one learning rate, averaged weights, resumable."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.paper import recipes
from keras_rar.wrapping import wrap


@dataclasses.dataclass(frozen=True)
class Phase:
    """A number of epochs with one method.

    Args:
        method: A name in `keras_rar.METHODS`.
        epochs: Positive integer.
        options: Options of `keras_rar.wrap` beyond the fast recipe, such as `{"factor": 6.0}`.

    Example:

    >>> Phase("igr", 3).options
    {}
    """

    method: str
    epochs: int
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.positive_int("epochs", self.epochs)


def train(
    network: keras.Model,
    x: np.ndarray | tf.data.Dataset,
    y: np.ndarray | None,
    phases: Sequence[Phase],
    *,
    dataset: str | None = None,
    learning_rate: float = 2e-3,
    batch_size: int = 100,
    seed: int = 0,
    schedule: str = "one_cycle",
    average: bool = True,
    folder: str | Path | None = None,
    verbose: int = 2,
) -> float:
    """Train a classifier of logits, one phase after the other; returns the seconds that took, over all runs.

    Adam. In one cycle the learning rate rises for a seventh of all updates, and falls as a cosine to a fiftieth. The
    weights that the last phase ends with are exponential averages, over 500 updates or a twentieth of its own.

    Args:
        network: A built Keras classifier that returns logits; its weights are trained.
        x: Array of inputs, `(n, ...)`; or a `tf.data.Dataset` of batches `(x, y)`.
        y: Class indices, `(n,)`; `None` with a `tf.data.Dataset`.
        phases: The phases, `Phase` objects.
        dataset: Whose ε and bounds are taken, as for `keras_rar.wrap`.
        learning_rate: Float > 0, the highest. Defaults to `2e-3`.
        batch_size: Positive integer, of arrays. Defaults to `100`.
        seed: Integer seed of the order of batches and of random starts.
        schedule: `"one_cycle"` or `"constant"`.
        average: Whether the weights are averaged in the end. Defaults to `True`.
        folder: Where a run is kept, so that another one goes on where it was stopped. Defaults to nowhere.
        verbose: As for `keras.Model.fit`.

    Example:

    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(8, 4)), np.arange(8) % 3
    >>> train(network, x, y, [Phase("madry", 1), Phase("igr", 1)], verbose=0) > 0
    True
    """
    checks.positive_int("batch_size", batch_size)
    checks.one_of("schedule", schedule, ["one_cycle", "constant"])
    checks.boolean("average", average)
    folder = None if folder is None else Path(folder)
    batched: dict[str, Any] = {"shuffle": False} if y is None else {"batch_size": batch_size}
    an_epoch = len(x) if y is None else -(-len(x) // batch_size)
    updates = an_epoch * sum(phase.epochs for phase in phases)
    rising = max(1, updates // 7)
    rate: Any = learning_rate
    if schedule == "one_cycle":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, updates - rising), alpha=0.02, warmup_target=learning_rate, warmup_steps=rising
        )
    averaged = min(500, max(1, an_epoch * phases[-1].epochs // 20))
    optimizer = keras.optimizers.Adam(
        rate, beta_2=0.99, use_ema=True, ema_momentum=1 - 1 / averaged, global_clipnorm=10.0
    )
    optimizer.build(network.trainable_variables)  # so that its state too is loaded
    clock = _Clock(None if folder is None else folder / "seconds.json")
    keras.utils.set_random_seed(seed)
    for number, phase in enumerate(phases):
        model = wrap(network, phase.method, recipe="fast", dataset=dataset, seed=seed, **phase.options)
        is_last = number == len(phases) - 1  # an earlier phase would end in averages with its beginning
        optimizer.use_ema = average and is_last
        options = {**batched, "epochs": phase.epochs, "verbose": verbose}
        _fit(model, optimizer, clock, folder, f"phase{number}", x, y, **options)
    return clock.seconds


def train_as_published(
    network: keras.Model,
    data: tf.data.Dataset,
    method: str,
    dataset: str,
    *,
    updates: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    verbose: int = 2,
) -> float:
    """Train a classifier of logits exactly as the paper does; returns the seconds that took, over all runs.

    `recipes.options("paper", …)` and `recipes.training`: 100,000 updates of about 1,150 passes an example on
    Fashion-MNIST, days to weeks on a processor. In a folder it is kept every thousand updates, and gone on from there.

    Args:
        network: A built Keras classifier that returns logits, with the weight decay of `recipes.training`.
        data: A `tf.data.Dataset` of batches `(x, y)`, of the size in `recipes.training`.
        method: `"natural"`, `"madry"`, `"ig_norm"` or `"ig_sum_norm"`.
        dataset: A name in `recipes.PAPER`.
        updates: Positive integer, to stop earlier. Defaults to the paper's.
        seed: As for `train`.
        folder: As for `train`.
        verbose: As for `train`.

    Example:

    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(8, 4)).astype("float32"), np.arange(8) % 3
    >>> data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    >>> train_as_published(network, data, "madry", "mnist", updates=2, verbose=0) > 0
    True
    """
    settings = recipes.training(method, dataset)
    updates = settings.updates if updates is None else checks.positive_int("updates", updates)
    folder = None if folder is None else Path(folder)
    clock = _Clock(None if folder is None else folder / "seconds.json")
    keras.utils.set_random_seed(seed)
    model = wrap(network, method, recipe="paper", dataset=dataset, seed=seed)
    steps = min(updates, 1000)
    options = {"shuffle": False, "steps_per_epoch": steps, "epochs": -(-updates // steps), "verbose": verbose}
    _fit(model, settings.optimizer(), clock, folder, "published", data.repeat(), **options)
    return clock.seconds


def _fit(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    clock: "_Clock",
    folder: Path | None,
    name: str,
    *data: Any,
    **options: Any,
) -> None:
    """Fit, kept in a folder and gone on from there; what was finished there is loaded."""
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    if folder is None:
        model.fit(*data, callbacks=[clock], **options)
        return
    finished = folder / f"{name}.weights.h5"
    if finished.exists():
        model.load_weights(finished)  # the optimizer's too
        return
    folder.mkdir(parents=True, exist_ok=True)
    model.fit(*data, callbacks=[keras.callbacks.BackupAndRestore(folder / name), clock], **options)
    model.save_weights(finished)


class _Clock(keras.callbacks.Callback):
    """Seconds of training, kept in a file from run to run."""

    def __init__(self, path: Path | None):
        super().__init__()
        self.path = path
        self.seconds = json.loads(path.read_text()) if path is not None and path.exists() else 0.0
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds += time.perf_counter() - self._start
        if self.path is not None:
            self.path.write_text(json.dumps(self.seconds))
