"""`train`: training in phases, which goes on where it was stopped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks, replicas
from keras_rar.training import defaults, rates
from keras_rar.training.batches import Batches
from keras_rar.training.phases import Phase, Plan, TrainingResult, checked_phases
from keras_rar.training.runs import Run
from keras_rar.training.sources import source_of, validation_of


def train(
    network: keras.Model,
    x: np.ndarray | Batches | tf.data.Dataset,
    y: np.ndarray | None = None,
    phases: Sequence[Phase] | Plan | None = None,
    *,
    sample_weight: np.ndarray | None = None,
    class_weight: dict[int, float] | None = None,
    validation_data: Any = None,
    batch_size: int | None = None,
    loss: Any = None,
    optimizer: Any = None,
    learning_rate: float | None = None,
    schedule: str | None = None,
    average: bool | None = None,
    metrics: Any = None,
    weighted_metrics: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    dataset: str | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    verbose: int | str = "auto",
) -> TrainingResult:
    """Train a classifier in phases, one method after the other; the weights of `network` are changed.

    Each phase is one `fit` of the wrapped network, whose epochs are counted from 0. A callback that stops the training
    ends its phase, and the next phase begins.

    In a folder the state is kept after each epoch: weights, optimizer, averages, every seed generator, the place in the
    data, what callbacks remember (numbers, texts, arrays), and the history. The same call then goes on, and ends with
    the same weights as a run that was not stopped. Not kept are other attributes of callbacks, and the state of random
    operations without a seed generator.

    Args:
        network: A built Keras classifier with one input and one output, logits or probabilities.
        x: Array of inputs, `(n, ...)`, which come in whole batches, in another order every epoch; or `Batches`; or a
            `tf.data.Dataset` of batches with a known number of them. A data set that is shuffled needs a seed, or a
            run cannot go on; a run that goes on reads the finished epochs once more.
        y: Labels of arrays: class indices, `(n,)`, or one-hot, `(n, classes)`.
        phases: List of `Phase`, or a `Plan`, which also has `learning_rate`, `batch_size`, `schedule` and `average`.
        sample_weight: Weights of arrays, `(n,)`. Defaults to none.
        class_weight: Dictionary from class index to weight, as for `keras.Model.fit`. Defaults to none.
        validation_data: `(x, y)`, `(x, y, sample_weight)`, a `tf.data.Dataset` or `Batches`: evaluated on clean inputs
            after every epoch. Defaults to none.
        batch_size: Positive integer, of arrays. Defaults to `100`.
        loss: As for `keras.Model.compile`. Defaults to the cross-entropy that fits the labels and the output.
        optimizer: As for `keras.Model.compile`; its settings are used, not the object. Defaults to Adam with
            `beta_2=0.99` and gradients clipped to a norm of 10.
        learning_rate: Float > 0, the highest. Defaults to that of `optimizer`, or to `2e-3`.
        schedule: `"cycles"`: in each phase the learning rate rises for a seventh of the updates, and falls as a cosine
            to a fiftieth; each phase begins with a new optimizer. `"one_cycle"`: one such cycle over all phases.
            `"constant"`: the rate of the optimizer, as callbacks and schedules of its own leave it. Defaults to
            `"cycles"`.
        average: Whether the weights that a phase ends with (with `"cycles"`; otherwise the last phase) are exponential
            averages, over 500 updates or a twentieth of those of the phase. Defaults to `True`.
        metrics: As for `keras.Model.compile`. Defaults to the accuracy.
        weighted_metrics: As for `keras.Model.compile`. Defaults to none.
        callbacks: As for `keras.Model.fit`; their `model` is the wrapped network.
        dataset: `"mnist"`, `"fashion_mnist"`, `"gtsrb"` or `"oxford_flower17"`: whose ε and bounds are taken.
        seed: Integer seed of the order of batches and of random starts; also given to
            `keras.utils.set_random_seed`. Defaults to `0`.
        folder: Where the run is kept. Defaults to nowhere.
        verbose: As for `keras.Model.fit`.

    Returns:
        A `TrainingResult`, with the `seconds` and the `history`.

    Raises:
        TypeError: If an argument is of a wrong type, or an option is unknown to the method of its phase.
        ValueError: If an argument is out of range; if the network is one of several workers; if the folder is that of
            a run with other data, another network or other settings; if a file in it is damaged.

    Example:

    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(8, 4)), np.arange(8) % 3
    >>> result = train(network, x, y, [Phase("madry", 1), Phase("igr", 1)], verbose=0)
    >>> result.seconds > 0, sorted(result.history[0])
    (True, ['accuracy', 'loss', 'perturbed_loss'])
    """
    stages, of_plan = _of_plan(phases, x, learning_rate, batch_size, schedule, average)
    template, rate = rates.checked(optimizer, of_plan["learning_rate"], of_plan["schedule"])
    rated = {"learning_rate": rate, "schedule": of_plan["schedule"], "average": of_plan["average"]}
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or [])
    class_weight = class_weight and {int(index): float(weight) for index, weight in class_weight.items()}
    validation_data = validation_of(validation_data)
    seed = checks.integer("seed", seed)
    source = source_of(x, y, sample_weight, of_plan["batch_size"], seed, folder is not None)
    # All options are checked before any training.
    models = [phase.wrap(network, dataset, seed, number > 0) for number, phase in enumerate(stages)]
    if replicas.workers(network.distribute_strategy) > 1:
        raise ValueError("`network` must be of one process. Received: one of several workers, which `fit` can train")
    loss = defaults.loss_for(network, source.spec()) if loss is None else loss
    metrics = [defaults.accuracy_of(network)] if metrics is None else metrics
    settings = {"phases": [vars(phase) for phase in stages], "dataset": dataset, "seed": seed, **rated}
    settings |= {"optimizer": template, "loss": loss, "class_weight": class_weight}
    settings |= {"dtype": network.dtype_policy.name}
    keras.utils.set_random_seed(seed)
    run = Run(folder, [f"phase{number}" for number in range(len(stages))], settings, network, source)
    options: dict[str, Any] = {"callbacks": callbacks, "class_weight": class_weight, "verbose": verbose}
    options |= {} if validation_data is None else {"validation_data": validation_data}
    options |= {"validation_batch_size": source.batch_size} if isinstance(validation_data, tuple) else {}
    optimizers = rates.optimizers(template, network, [source.steps * phase.epochs for phase in stages], **rated)
    first = 0
    for number, (phase, model, of_phase) in enumerate(zip(stages, models, optimizers, strict=True)):
        model.compile(of_phase, loss, metrics=metrics, weighted_metrics=weighted_metrics)
        if verbose != 0:
            print(_title(phase, number, len(stages), run.epochs_done(number)))
        run.fit(model, number, first=first, epochs=phase.epochs, **options)
        first += phase.epochs
    return TrainingResult(run.seconds, run.history, sum(run.skipped))


def _of_plan(
    phases: Any, x: Any, learning_rate: Any, batch_size: Any, schedule: Any, average: Any
) -> tuple[list[Phase], dict[str, Any]]:
    """The phases, and the arguments that a `Plan` has too: of the plan if there is one."""
    given = {"learning_rate": learning_rate, "batch_size": batch_size, "schedule": schedule, "average": average}
    if isinstance(phases, Plan):
        for name, value in given.items():
            if value is not None:
                checks.fail(name, "left out with a Plan, which has its own", value)
        given = {name: getattr(phases, name) for name in given}
        if isinstance(x, (Batches, tf.data.Dataset)):
            given["batch_size"] = None
        phases = phases.phases
    given["schedule"] = "cycles" if given["schedule"] is None else given["schedule"]
    given["average"] = checks.boolean("average", True if given["average"] is None else given["average"])
    return checked_phases(phases), given


def _title(phase: Phase, number: int, phases: int, done: int | None) -> str:
    """What is said before a phase."""
    epochs = f"{phase.epochs} epochs" if phase.epochs > 1 else "1 epoch"
    before = ", finished before" if done is None else f", {done} done before" if done else ""
    return f"Phase {number + 1} of {phases}: {phase.name}, {epochs}{before}"
