"""`Certificate`: what is proved of smoothed maps, per example and radius."""

import dataclasses
from typing import Any

import numpy as np

from keras_rar.evaluation.report import DRAWN_BY
from keras_rar.evaluation.wording import counted

NOISES = {"gaussian": "Gaussian", "uniform": "uniform"}
"""As texts write them."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """What `certify` proved: no point within a radius has a smoothed map that is less similar than this.

    Both bounds of one example hold at all radii together with the probability `confidence`, over the draws of the
    noise. For statements about several examples see `curve`.

    Args:
        radii: L2 radii, increasing, `(radii,)`, in the units of the input.
        topk_lower: Lower bound on the share of the k largest entries in common, `(n, radii)`.
        cosine_lower: Lower bound on the cosine, `(n, radii)`.
        maps: Estimates of the smoothed maps: how often each entry was among the `kept` largest of a draw, `(n, ...)`.
        labels: The classes explained, `(n,)`.
        indices: The rows of `x`, `(n,)`.
        undefined: How many draws of each example had a map that is not finite, `(n,)`. They count as maps of zeros.
        k: Number of largest entries compared.
        kept: Number of largest entries of each draw that count as 1.
        sigma: Standard deviation of the noise.
        smoothing: `"gaussian"` or `"uniform"`.
        samples: Number of draws.
        confidence: Of the bounds of one example.
        method: Name of the map that is smoothed.
        seed: Of the draws.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> found = keras_rar.certify(model, np.full([2, 4], 0.5), k=1, sigma=0.1, samples=100, progress=False)
    >>> found.topk_lower.shape, sorted(found.curve())
    ((2, 9), ['confidence', 'cosine', 'radii', 'topk'])
    """

    radii: np.ndarray
    topk_lower: np.ndarray
    cosine_lower: np.ndarray
    maps: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    undefined: np.ndarray
    k: int
    kept: int
    sigma: float
    smoothing: str
    samples: int
    confidence: float
    method: str
    seed: int

    def curve(self) -> dict[str, Any]:
        """The mean bounds over examples.

        They hold for the mean over these examples, at all radii, with the probability `1 − n (1 − confidence)` at
        least: if the bounds of all n examples hold, their mean does. Of other examples they say nothing.

        Returns:
            Dictionary with `radii`, `topk` and `cosine`, arrays of shape `(radii,)`, and the `confidence` of both, a
            float, 0 where n is too large to conclude anything.
        """
        failure = len(self.indices) * (1 - self.confidence)
        return {
            "radii": self.radii,
            "topk": self.topk_lower.mean(axis=0),
            "cosine": self.cosine_lower.mean(axis=0),
            "confidence": max(0.0, 1 - failure),
        }

    @property
    def warnings(self) -> list[str]:
        """What a reader has to know before the numbers, a sentence each."""
        found = []
        affected, draws = int(np.sum(self.undefined > 0)), int(self.undefined.sum())
        if draws:
            found.append(
                f"{counted(draws, 'draw')} of {counted(affected, 'example')} had a map that is not finite: "
                "they count as maps of zeros."
            )
        if not self.curve()["confidence"]:
            found.append("There are too many examples for a statement about their mean: raise `confidence`.")
        if not np.any(self.topk_lower) and not np.any(self.cosine_lower):
            found.append("Nothing is certified at any radius: more `samples` or a larger `sigma` may help.")
        return found

    def to_markdown(self) -> str:
        """The curve as a table, under its warnings, with what it says below it."""
        curve = self.curve()
        lines = [f"| L2 radius | top-{self.k} intersection | cosine |", "|---|---|---|"]
        for radius, topk, cosine in zip(curve["radii"], curve["topk"], curve["cosine"], strict=True):
            lines.append(f"| {radius:.4g} | >= {100 * _down(topk, 3):.1f} % | >= {_down(cosine, 3):.3f} |")
        noise = f"{NOISES[self.smoothing]} noise of standard deviation {self.sigma:g}"
        about = (
            f"Means of {counted(len(self.indices), 'example')}; lower bounds for the map `{self.method}` smoothed with "
            f"{noise}, from {self.samples} draws each, not for the map itself. They hold for each example with "
            f"confidence {self.confidence:.10g}, and for the means with {curve['confidence']:.10g}."
        )
        return "\n\n".join([*(f"**{warning}**" for warning in self.warnings), "\n".join(lines), about])

    def as_findings(self) -> dict[str, Any]:
        """The curve and the settings as plain values, for JSON.

        Returns:
            Dictionary with `radii`, `topk`, `cosine` (lists), `confidence` (of each example), `confidence_of_means`,
            `n`, `undefined` (draws), `warnings`, and the settings `k`, `kept`, `sigma`, `smoothing`, `samples`,
            `method`, `seed`.
        """
        curve = self.curve()
        found = {name: curve[name].tolist() for name in ("radii", "topk", "cosine")}
        found |= {"confidence": self.confidence, "confidence_of_means": curve["confidence"], "n": len(self.indices)}
        found |= {"undefined": int(self.undefined.sum()), "warnings": self.warnings}
        names = ("k", "kept", "sigma", "smoothing", "samples", "method", "seed")
        return found | {name: getattr(self, name) for name in names}

    def plot(self, *, width: float = 3.5) -> Any:
        """A figure of both bounds over the radius: each example pale, the mean dark; needs matplotlib.

        Args:
            width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return DRAWN_BY["certificate figure"](self, width=width)

    def __repr__(self) -> str:
        curve = self.curve()
        rows = zip(curve["radii"], curve["topk"], curve["cosine"], strict=True)
        head = f"Certificate of {counted(len(self.indices), 'example')}, confidence {self.confidence:.10g} each"
        lines = [
            f"  radius {r:.4g}: top-{self.k} >= {_down(t, 3):.3f}, cosine >= {_down(c, 3):.3f}" for r, t, c in rows
        ]
        return "\n".join([head, *lines, *(f"  {warning}" for warning in self.warnings)])

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def _down(value: float, digits: int) -> float:
    """A lower bound, rounded down: up, it would be none."""
    return float(np.floor(value * 10**digits + 1e-9) / 10**digits)
