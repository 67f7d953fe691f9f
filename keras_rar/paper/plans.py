"""How the fast recipe trains on the data sets of the paper."""

from keras_rar.core import checks
from keras_rar.paper.published import METHODS, PUBLISHED
from keras_rar.training.phases import Phase, Plan

DATASETS = (*PUBLISHED, "mnist_10k")

PER_CLASS = {"gtsrb": 10_000, "oxford_flower17": 1_000}
"""To how many training examples a class is augmented, where it is."""


def fast(method: str, dataset: str = "fashion_mnist") -> Plan:
    """How the fast recipe trains.

    The paper's CNN with the paper's methods: at its rate, from its initial weights, in its batches of 50, for 21 epochs
    of natural training, which are the paper's updates, and 30 of each other method, a third of them; of IG-NORM and
    IG-SUM-NORM the last 10, after adversarial training. `"mnist_10k"`, a seventh of the images, has three times as many
    epochs. Otherwise in cycles of a higher rate.

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
    if method in ("igr", "ig_topk"):
        return Plan([Phase("madry", 4), Phase(method, 1, {"ascend": "objective"})])
    if dataset in PER_CLASS:
        return Plan([Phase(method, 8)] if method in ("natural", "madry") else [Phase("madry", 4), Phase(method, 4)])
    times = 3 if dataset == "mnist_10k" else 1
    alone = {"natural": [Phase("natural", 21 * times)], "madry": [Phase("madry", 30 * times)]}
    phases = alone.get(method, [Phase("madry", 20 * times), Phase(method, 10 * times)])
    return Plan(phases, learning_rate=1e-4, batch_size=50, schedule="constant", average=False, initializer=None)
