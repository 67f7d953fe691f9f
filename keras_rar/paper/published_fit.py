"""Training exactly as the paper does it, resumable."""

from pathlib import Path
from typing import cast

import keras

from keras_rar.core import checks
from keras_rar.methods.table import Method
from keras_rar.paper.published_training import training
from keras_rar.training.batches import Batches
from keras_rar.training.defaults import loss_for
from keras_rar.training.phases import TrainingResult
from keras_rar.training.runs import Run
from keras_rar.training.sources import OfBatches
from keras_rar.training.wrapping import wrap

_KEPT_EVERY = 1000
"""Updates of the paper's recipe from one kept state to the next."""


def train_as_published(
    network: keras.Model,
    data: Batches,
    method: str,
    dataset: str,
    *,
    updates: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    verbose: int = 2,
) -> TrainingResult:
    """Train a classifier of logits exactly as the paper does.

    The settings are `recipes.options("paper", …)` and `published_training.training`: 100,000 updates of about 1,150
    passes per example on Fashion-MNIST, days to weeks on a processor. In a folder the state is kept every thousand
    updates, and the same call goes on from there.

    Args:
        network: A built Keras classifier that returns logits, with the weight decay of `published_training.training`.
        data: Batches of the size in `published_training.training`.
        method: `"natural"`, `"madry"`, `"ig_norm"` or `"ig_sum_norm"`.
        dataset: A name in `keras_rar.training.recipes.PAPER`.
        updates: Positive integer, to stop earlier; a multiple of a thousand if it is more than that. Defaults to the
            paper's.
        seed: As for `train`.
        folder: As for `train`.
        verbose: As for `train`.

    Returns:
        A `keras_rar.training.TrainingResult`.

    Raises:
        ValueError: If the number of updates is not a multiple of a thousand; and as for `train`.

    Example:

    >>> from keras_rar.training import shuffled
    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(8, 4)).astype("float32"), np.arange(8) % 3
    >>> train_as_published(network, shuffled(x, y, 4), "madry", "mnist", updates=2, verbose=0).seconds > 0
    True
    """
    settings = training(method, dataset)
    updates = settings.updates if updates is None else checks.positive_int("updates", updates)
    steps = min(updates, _KEPT_EVERY)
    if updates % steps:
        raise ValueError(f"`updates` must be a multiple of {_KEPT_EVERY}, or less. Received: updates={updates}")
    described = {"method": method, "dataset": dataset, "updates": updates, "seed": seed}
    keras.utils.set_random_seed(seed)
    model = wrap(network, cast(Method, method), recipe="paper", dataset=dataset, seed=seed, batch_statistics="updated")
    source = OfBatches(data, steps)
    model.compile(settings.optimizer(), loss_for(network, source.spec()), metrics=["accuracy"])
    run = Run(folder, ["published"], described, network, source)
    run.fit(model, 0, first=0, epochs=updates // steps, verbose=verbose)
    return TrainingResult(run.seconds, run.history, sum(run.skipped))
