"""How far the smooth twin that an attack follows is the network, and which twin to follow."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from keras_rar.networks.classifier import Classifier
from keras_rar.networks.spreads import relu_spread
from keras_rar.networks.surrogates import softplus

EXAMPLES = 8
"""Twin and network are compared on so many examples, the first."""
TRIED = 6
"""How many β are tried: from about one over the size of what the ReLUs get to 300 over it."""
ENOUGH = {"predictions": 1.0, "scores": 0.9999}
"""How far the twin that is followed agrees: chosen in docs/research/twin.md."""
WARNED = {"predictions": 0.8, "maps": 0.9}
"""A twin that agrees less is said to be another network."""


@dataclasses.dataclass(frozen=True)
class TwinAgreement:
    """How far the twin that an attack takes gradients through agrees with the network, on the first examples.

    Args:
        beta: The sharpness β of its softplus; `None` where gradients are taken through the network as it is, or
            through a `gradient_model`.
        predictions: Share of the examples for which the twin predicts what the network does.
        scores: Correlation of the twin's logits with those of the network, over examples and classes.
        maps: Cosine of the twin's saliency map with that of the network, the mean over the examples.

    Example:

    >>> print(TwinAgreement(beta=1.0, predictions=0.125, scores=-0.01, maps=0.593).warning)
    The twin (β = 1) is not the network: 12 % of predictions agree, and the cosine of maps is 0.59. The attack may \
find little more than noise does.
    >>> TwinAgreement(beta=30.0, predictions=1.0, scores=1.0, maps=0.993).warning is None
    True
    """

    beta: float | None
    predictions: float
    scores: float
    maps: float

    @property
    def warning(self) -> str | None:
        """A sentence where the twin is not the network, or `None`. NaN is no agreement."""
        if self.reaches(WARNED):
            return None
        which = "" if self.beta is None else f" (β = {self.beta:g})"
        return (
            f"The twin{which} is not the network: {100 * self.predictions:.0f} % of predictions agree, and the cosine "
            f"of maps is {self.maps:.2f}. The attack may find little more than noise does."
        )

    def reaches(self, least: dict[str, float]) -> bool:
        """Whether it agrees at least so far.

        Args:
            least: The least `predictions` and `maps`.
        """
        return all(getattr(self, name) >= value for name, value in least.items())


ITSELF = TwinAgreement(None, 1.0, 1.0, 1.0)
"""The network agrees with itself."""


def found(classifier: Classifier, x: tf.Tensor) -> float | None:
    """The sharpness of the smoothest softplus twin that agrees with the network in its logits.

    The first β of …, 1, 3, 10, 30, … at which the twin reaches `ENOUGH`, from about 1/s on, with s the size of what the
    ReLUs get (`relu_spread`); the last that is tried if none does. So few values, that training seldom changes it and
    makes attacks compile anew. At most eight forward passes, and nothing compiled.

    Args:
        classifier: The network.
        x: Inputs.

    Returns:
        A float > 0, or `None` for a network without ReLUs, which needs no twin.

    Raises:
        ValueError: If a ReLU of the network is out of reach.
    """
    spread = relu_spread(classifier, x)
    if spread is None:
        return None
    own, start = classifier.logits(x).numpy(), round(-2 * math.log10(spread))
    betas = [(1.0, 3.0)[j % 2] * 10.0 ** (j // 2) for j in range(start, start + TRIED)]
    for beta in betas:
        logits = twin_logits(classifier, beta, x)
        agreement = {"predictions": same_predictions(classifier, logits, own), "scores": correlation(logits, own)}
        if all(agreement[name] >= least for name, least in ENOUGH.items()):
            return beta
    return betas[-1]


def twin_logits(classifier: Classifier, beta: float, x: tf.Tensor) -> np.ndarray:
    """The logits of the softplus twin."""
    return classifier.head.scored(lambda logits: logits, softplus(beta), staged=False)(x).numpy()


def same_predictions(classifier: Classifier, a: np.ndarray, b: np.ndarray) -> float:
    """The share of examples for which two arrays of logits, `(n, classes)`, predict the same."""
    if classifier.classes == 1 or classifier.multilabel:
        return float(np.mean(np.all((a > 0) == (b > 0), axis=1)))
    return float(np.mean(a.argmax(axis=1) == b.argmax(axis=1)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation over all entries: 1 of equal arrays, 0 where one of two others is constant."""
    a, b = a.astype("float64"), b.astype("float64")
    if np.array_equal(a, b):
        return 1.0
    a, b = a - a.mean(), b - b.mean()
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.sum(a * b) / norms) if norms > 0 else 0.0
