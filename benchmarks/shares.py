"""How much of a map lies on some of its pixels, and how tables show it."""

import numpy as np

from keras_rar.evaluation.intervals import number


def share_on(maps, where):
    """`Σ_{i ∈ R} |Mᵢ| / Σᵢ |Mᵢ|` of each map: which part of it lies in the region R.

    Args:
        maps: Array of shape `(n, height, width)`, or with channels, over which sizes are summed.
        where: Booleans of shape `(n, height, width)`, or of one region for all maps, `(height, width)`.

    Returns:
        NumPy array of shape `(n,)`, from 0 to 1; not a number where a map is all zeros, and has no parts.
    """
    maps = np.abs(np.asarray(maps, "float64"))
    if maps.ndim == 4:
        maps = maps.sum(axis=-1)
    where = np.broadcast_to(np.asarray(where, bool), maps.shape)
    inside, whole = np.where(where, maps, 0).sum(axis=(1, 2)), maps.sum(axis=(1, 2))
    return np.divide(inside, whole, out=np.full(len(maps), np.nan), where=whole > 0)


def cell(row, signed=False):
    """A share in per cent, or a difference of shares in points, with its interval."""
    mean, low, high = (number("share", row[end], signed) for end in ("mean", "low", "high"))
    return f"{mean}{'' if signed else ' %'} [{low}, {high}]".replace("-", "−")
