"""The attribution attacks of Ghorbani et al. (2019): what each ascends."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_rar.attacks import explained, starts
from keras_rar.attacks.attribution import AttributionAttack
from keras_rar.attacks.choices import Options, Radius
from keras_rar.core import checks, map_objectives
from keras_rar.core.row_draws import Block

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of `typing` from Python 3.11 on


class TopKAttack(AttributionAttack):
    """Drain the k highest entries of the map: ascend `−Σ_{i ∈ T_k(M)} M̃ᵢ(x′)` (Ghorbani et al. 2019).

    M is the map of the network at x, M̃ that of its smooth twin.

    Args:
        k: Positive integer, number of entries, below that of a map.
        epsilon: Float > 0, or an array of one float >= 0 per feature: radius of the ball, in the units of the input.
        **options: As for `AttributionAttack`; `k_report` defaults to `k`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> result = TopKAttack(k=2, epsilon=0.1, steps=5, m=5)(model, np.full([1, 4], 0.5))
    >>> result.map_after.shape
    (1, 4)
    """

    def __init__(self, k: int, epsilon: Radius, **options: "Unpack[Options]"):
        self.k = checks.positive_int("k", k)
        if options.get("k_report") is None:
            options["k_report"] = self.k
        super().__init__(epsilon, **options)

    def check_map(self, shape: tuple[int, ...]) -> None:
        explained.check_k("k", self.k, shape)
        super().check_map(shape)

    def objective(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        return map_objectives.topk(self.k)(before, after)


class MassCenterAttack(AttributionAttack):
    """Carry the centre of mass of the map away: ascend `‖C(M̃(x′)) − ⌊C(M̃(x))⌋‖₂²` (Ghorbani et al. 2019).

    M̃ is the map of the smooth twin of the network, at x too. Takes the arguments of `AttributionAttack`.

    Example:

    >>> layers = [keras.layers.Conv2D(2, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(3)]
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    >>> result = MassCenterAttack(epsilon=0.1, steps=5, m=5)(model, np.full([1, 6, 6, 1], 0.5))
    >>> result.map_after.shape
    (1, 6, 6)
    """

    def check_map(self, shape: tuple[int, ...]) -> None:
        super().check_map(shape)
        if len(shape) != 2:
            raise ValueError(f"`MassCenterAttack` needs maps of shape (height, width). Received: {shape}")

    def objective(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        return map_objectives.mass_center(before, after)

    def reference(self, before: tf.Tensor, smooth_before: Callable[[], tf.Tensor]) -> tf.Tensor:
        return smooth_before()


class TargetAttack(AttributionAttack):
    """Raise the map within a region: ascend `Σ_{i ∈ region} M̃ᵢ(x′)` (Ghorbani et al. 2019).

    M̃ is the map of the smooth twin of the network.

    Args:
        region: Array of booleans of the shape of one map.
        epsilon: Float > 0, or an array of one float >= 0 per feature: radius of the ball, in the units of the input.
        **options: As for `AttributionAttack`.

    Raises:
        ValueError: If the region is empty, or an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> attack = TargetAttack([True, False, False, False], epsilon=0.1, steps=5, m=5)
    >>> attack(model, np.full([1, 4], 0.5)).map_after.shape
    (1, 4)
    """

    def __init__(self, region: npt.ArrayLike, epsilon: Radius, **options: "Unpack[Options]"):
        self.region = np.asarray(region)
        if self.region.dtype != bool or not self.region.any():
            checks.fail("region", "an array of booleans, some of them True", region)
        super().__init__(epsilon, **options)

    def check_map(self, shape: tuple[int, ...]) -> None:
        super().check_map(shape)
        if self.region.shape != shape:
            raise ValueError(f"`region` must have the shape of a map, {shape}. Received: {self.region.shape}")

    def objective(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        return map_objectives.target(self.region)(before, after)


class RandomAttack(AttributionAttack):
    """The negative control: each iterate is a random vertex of the ball, and the worst one is kept.

    An attack that is no stronger than this one has found nothing. Takes the arguments of `AttributionAttack`;
    `step_size` defaults to `2 epsilon`, which reaches from any point of the ball to its border.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> result = RandomAttack(epsilon=0.1, steps=5, m=5)(model, np.full([1, 4], 0.5))
    >>> bool(np.all(np.abs(result.x_adv - result.x) <= 0.1 + 1e-6))
    True
    """

    follows_gradients = False
    derivatives = "first"

    def default_step_size(self, reach: float) -> float:
        """The diameter of the ball."""
        return 2 * reach

    def objective(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        return tf.zeros(tf.shape(before)[:1], before.dtype)

    def direction(self, x: tf.Tensor, reference: tf.Tensor, smooth_map: Callable, block: Block) -> Callable:
        noise = starts.random_direction(block, x)
        return lambda k, x_prime: self.neighborhood.along(noise(k, x_prime))
