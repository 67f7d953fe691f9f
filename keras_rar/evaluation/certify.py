"""`certify`: lower bounds on the similarity of smoothed maps, from draws of the noise."""

import math
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from keras_rar.attacks import explained
from keras_rar.attacks.choices import AnySaliency, RuleName, Target
from keras_rar.core import certificates, checks, keywords
from keras_rar.core.smoothing import SMOOTHINGS
from keras_rar.evaluation import noisy_maps
from keras_rar.evaluation.certificate import Certificate
from keras_rar.evaluation.progress import Progress
from keras_rar.explaining import attackable
from keras_rar.networks import at_once
from keras_rar.networks.base_model import baseline_of
from keras_rar.networks.classifier import TARGETS, Classifier
from keras_rar.networks.kept import compiled
from keras_rar.networks.row_parts import integer_columns


@keywords.checked
def certify(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    radii: npt.ArrayLike | None = None,
    sigma: float = 0.25,
    k: int | None = None,
    samples: int = 1000,
    confidence: float = 0.999,
    norm: Literal["l2"] = "l2",
    smoothing: Literal["gaussian", "uniform"] = "gaussian",
    kept: int | None = None,
    method: AnySaliency = "gradient",
    target: Target = "logit",
    rule: RuleName = "right",
    m: int = 20,
    baseline: npt.ArrayLike = "auto",
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> Certificate:
    """Lower bounds on how similar a smoothed map stays within an L2 ball, whatever the attack.

    Two maps are certified, both averages over noise `δ` of the map `a(x + δ)` (absolute values, summed over channels):
    `m(x) = E h(x + δ)` with `hᵢ = 1` where `aᵢ > 0` is among the `kept` largest entries, else 0; and
    `u(x) = E a(x + δ)/‖a(x + δ)‖₂`. For all x′ with `‖x′ − x‖₂ <= ρ`: `|T_k(m(x)) ∩ T_k(m(x′))| / k >= topk_lower`
    (after Levine et al. 2019, arXiv:1905.12105), and `cos(u(x), u(x′)) >= cosine_lower` (in the spirit of Wang & Kong
    2024, arXiv:2405.06361). The proofs are in `keras_rar.core`: `certificates.certified_overlap`,
    `certificates.certified_cosine`, and the kinds of `smoothing`.

    It says something of *smoothed* maps only: the map of the network itself may change at any distance. The class
    explained is that at x, for x′ too. x′ may be any point, inside or outside of the valid range, and so may x + δ.

    The means are not known but drawn. Their errors are part of the bounds: half of `1 − confidence` goes to the entries
    of m, by the exact interval for binomials at two sides of each entry; half to the norm of the other map, by a bound
    on the mean of its projections on a direction that the first quarter of the draws chose.

    One example costs `samples` maps.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        x: Array of shape `(n, ...)`.
        y: Labels whose score is explained. Defaults to the predicted ones.
        radii: L2 radii, increasing, >= 0, in the units of the input. Defaults to 9 from 0 to `2 sigma`.
        sigma: Float > 0, standard deviation of the noise in each entry. More noise certifies larger radii, for a map
            that says less of x. Defaults to `0.25`, for inputs in [0, 1].
        k: Number of largest entries to compare, below that of a map. Defaults to an eighth of the map.
        samples: Positive integer, draws of the noise. Defaults to `1000`.
        confidence: Float between 0 and 1, the probability that all bounds of one example hold. Defaults to `0.999`.
        norm: `"l2"`: no other ball has such a certificate. The ball of L∞ radius ε in n dimensions lies in the L2 ball
            of radius `ε √n`.
        smoothing: `"gaussian"`, or `"uniform"` in an L2 ball. Defaults to `"gaussian"`.
        kept: Number of largest entries of each draw that count as 1. Defaults to `k`.
        method: The map: `"gradient"`, `"ig"`, `"gradient_x_input"`, a `Saliency`, or a function of TensorFlow
            operations. Defaults to `"gradient"`, which smoothed is SmoothGrad.
        target: The score explained: `"logit"`, `"loss"` or `"probability"`.
        rule: Quadrature rule of IG. Defaults to `"right"`.
        m: Its number of nodes. Defaults to `20`.
        baseline: Float or array, where the segments of IG begin. Defaults to `"auto"`: that of the training of a
            `RARModel` at its input, or `0.`.
        seed: Integer seed of the draws. Defaults to `0`.
        batch_size: Positive integer, draws evaluated at once. Defaults to `None`, what fits in memory.
        progress: Whether to show how far it has come. Defaults to `True`.

    Returns:
        A `Certificate`.

    Raises:
        TypeError: If an argument is not of its type, or does not exist.
        ValueError: If an argument is out of range, `samples` are too few to certify anything with this confidence, or
            scores of `model` are NaN. Nothing is drawn then.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])  # a linear one: its gradient is constant
    >>> found = certify(model, [[0.1, 0.2, 0.3, 0.4]], radii=[0.0, 0.2], k=1, sigma=0.2, progress=False)
    >>> found.topk_lower, found.cosine_lower.round(2)
    (array([[1., 1.]]), array([[1.  , 0.89]]))
    """
    baseline = baseline_of(model, None, baseline)
    classifier = Classifier(model)
    x = classifier.check_inputs(x)
    if np.any(integer_columns(classifier.model)):
        checks.fail("model", "without integers in its input, which noise would change", classifier.model.name)
    checks.boolean("progress", progress)
    _check_norm(norm)
    noise = SMOOTHINGS[checks.one_of("smoothing", smoothing, SMOOTHINGS)](sigma, int(np.prod(x.shape[1:])))
    radii = _checked_radii(2 * noise.sigma * np.linspace(0, 1, 9) if radii is None else radii)
    samples, seed = checks.positive_int("samples", samples), checks.seed(seed)
    checks.one_of("target", target, TARGETS)
    checks.broadcasts("baseline", checks.finite_array("baseline", baseline), classifier.input_shape)
    saliency = attackable.get_differentiable(method, rule=rule, m=m, baseline=baseline, chunk="auto")
    if batch_size is None:
        points = getattr(saliency, "points", 1)
        most = noisy_maps.block_size(noise.dimension, points)
        batch_size = at_once.examples(classifier.model, x.shape[1:], "first", most, points)
    batch_size = checks.positive_int("batch_size", batch_size)
    shape = noisy_maps.map_shape(classifier, saliency, target, x)
    entries = int(np.prod(shape))
    k = _below("k", explained.eighth(shape) if k is None else k, entries)
    kept = k if kept is None else _below("kept", kept, entries)
    failure = _checked_failure(confidence, samples, entries)
    labels = _predicted(classifier, x, batch_size)  # also with labels: scores that are NaN are refused
    labels = labels if y is None else classifier.check_labels(y, len(x))
    labels = classifier.explained(x, labels, batch_size)  # of a set of labels one, the same for all draws

    plain = isinstance(method, str) and np.ndim(baseline) == 0
    key = ("certify", method, target, kept, rule, m, float(np.max(baseline))) if plain else None
    sums = compiled(classifier.model, key, noisy_maps.sums_of(noisy_maps.explainer(classifier, saliency, target), kept))
    found = []
    with Progress("certificate", len(x), "example", 0, progress) as bar:
        for i, (one, label) in enumerate(zip(x, labels, strict=True)):
            found.append(noisy_maps.drawn(sums, noise, one, label, (seed, i), samples, batch_size, bar.show))

    counts, projections, undefined = (np.stack(column) for column in zip(*found, strict=True))

    lower, upper = (noise.scaled(bound) for bound in certificates.share_bounds(counts, samples, failure / entries))
    norms = certificates.mean_lower_bound(projections, failure)
    return Certificate(
        radii,
        certificates.certified_overlap(lower, upper, k, noise.shift(radii)),
        certificates.certified_cosine(norms, noise, radii),
        (counts / samples).reshape(len(x), *shape),
        labels,
        np.arange(len(x)),
        undefined,
        k,
        kept,
        noise.sigma,
        smoothing,
        samples,
        float(confidence),
        method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__),
        seed,
    )


def _predicted(classifier: Classifier, x: np.ndarray, batch_size: int) -> np.ndarray:
    return np.concatenate([classifier.predict(x[i : i + batch_size]) for i in range(0, len(x), batch_size)])


def _check_norm(norm: Any) -> None:
    if norm == "linf":
        checks.fail("norm", '"l2": an L∞ ball of radius ε in n dimensions lies in the L2 ball of radius ε √n', norm)
    if norm == "l1":
        checks.fail("norm", '"l2": an L1 ball of radius ε lies in the L2 ball of radius ε', norm)
    if norm != "l2":
        checks.fail("norm", '"l2", the only ball that noise certifies here', norm)


def _checked_radii(radii: Any) -> np.ndarray:
    found = np.asarray(checks.finite_array("radii", radii), "float64")
    if found.ndim != 1 or not len(found) or found[0] < 0 or np.any(np.diff(found) <= 0):
        checks.fail("radii", "a list of increasing floats >= 0", radii)
    return found


def _below(name: str, value: Any, entries: int) -> int:
    if checks.positive_int(name, value) >= entries:
        checks.fail(name, f"below the number of entries of the map, {entries}", value)
    return int(value)


def _checked_failure(confidence: Any, samples: int, entries: int) -> float:
    """The probability with which each of the two certificates may not hold."""
    if not 0 < checks.positive_float("confidence", confidence) < 1:
        checks.fail("confidence", "a float between 0 and 1", confidence)
    failure = (1 - confidence) / 2
    least = math.floor(math.log2(2 * entries / failure))  # with fewer, entries seen always and never are not told apart
    if samples <= least:
        checks.fail("samples", f"more than {least} for a map of {entries} entries and this confidence", samples)
    return failure
