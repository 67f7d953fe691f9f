"""The plans of the fast recipe for the data sets of the paper."""

from typing import cast

from keras_rar.core import checks
from keras_rar.methods.table import Method
from keras_rar.paper.published import METHODS, PUBLISHED
from keras_rar.training.phases import Phase, Plan

DATASETS = (*PUBLISHED, "mnist_10k")

PER_CLASS = {"gtsrb": 10_000, "oxford_flower17": 1_000}
"""Training examples per class after augmentation, for the data sets that are augmented."""


def fast(method: str, dataset: str = "fashion_mnist") -> Plan:
    """The plan of the fast recipe for one method on one data set.

    For the paper's CNN and the paper's methods, the plan has the learning rate, initial weights and batch size (50) of
    the paper. Natural training takes 21 epochs, which are as many updates as in the paper; every other method takes 30
    epochs, a third of its updates. IG-NORM and IG-SUM-NORM are the last 10 of them, after adversarial training.
    `"mnist_10k"` has a seventh of the images and three times as many epochs. All other plans have cycles of a higher
    learning rate.

    Args:
        method: A name in `METHODS`.
        dataset: A name in `DATASETS`.

    Returns:
        A `Plan`.

    Example:

    >>> [phase.method for phase in fast("ig_norm").phases]
    ['madry', 'ig_norm']
    """
    checks.one_of("method", method, METHODS)
    checks.one_of("dataset", dataset, DATASETS)
    named = cast(Method, method)
    if method in ("igr", "ig_topk"):
        return Plan([Phase("madry", 4), Phase(named, 1, {"ascend": "objective"})])
    if dataset in PER_CLASS:
        return Plan([Phase(named, 8)] if method in ("natural", "madry") else [Phase("madry", 4), Phase(named, 4)])
    times = 3 if dataset == "mnist_10k" else 1
    alone = {"natural": [Phase("natural", 21 * times)], "madry": [Phase("madry", 30 * times)]}
    phases = alone.get(method, [Phase("madry", 20 * times), Phase(named, 10 * times)])
    return Plan(phases, learning_rate=1e-4, batch_size=50, schedule="constant", average=False, initializer=None)
