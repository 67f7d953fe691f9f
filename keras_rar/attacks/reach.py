"""Whether a ball reaches any other input than its centre, in the numbers that the network computes with."""

import numpy as np
import numpy.typing as npt

from keras_rar.attacks.choices import Bounds
from keras_rar.core import checks


def check_reach(x: np.ndarray, epsilon: npt.ArrayLike, bounds: Bounds) -> None:
    """Refuse a radius that changes no entry of an example, so that every map would be the same.

    Args:
        x: Inputs, in the dtype of the network.
        epsilon: How far a feature may go, one float or an array that broadcasts to an input.
        bounds: Pair `(lower, upper)` or `None`.

    Raises:
        ValueError: If of some example `x ± ε`, clipped to the bounds, is `x` in every entry.
    """
    radius = np.asarray(epsilon, x.dtype)
    ends = [x - radius, x + radius]
    if bounds is not None:
        lower, upper = (np.asarray(bound, x.dtype) for bound in bounds)
        ends = [np.clip(end, lower, upper) for end in ends]
    moves = ((ends[0] != x) | (ends[1] != x)).reshape(len(x), -1).any(axis=1)
    if not moves.all():
        raise ValueError(
            f"`epsilon` must change the inputs in {x.dtype.name}, within the bounds. "
            f"Received: epsilon={checks.shown(epsilon)}, which changes no entry of example {int(np.argmin(moves))}"
        )
