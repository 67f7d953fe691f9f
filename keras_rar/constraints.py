"""Constraints on the weights of a first layer, so that it stays silent on what an attack could paint on nothing."""

import keras

from keras_rar.core import checks

__all__ = ["AtMost", "UnitPositiveSum", "dead_zone"]


@keras.saving.register_keras_serializable("keras_rar")
class UnitPositiveSum(keras.constraints.Constraint):
    """Scales each unit of a kernel so that its positive weights sum to 1.

    Units follow the last axis. One whose positive weights sum to less than 10⁻³ keeps a smaller sum.

    Example:

    >>> UnitPositiveSum()(np.array([[3.0, 0.25], [-2.0, 0.25], [1.0, 0.0]])).numpy()
    array([[ 0.75,  0.5 ],
           [-0.5 ,  0.5 ],
           [ 0.25,  0.  ]])
    """

    def __call__(self, w):
        total = keras.ops.sum(keras.ops.maximum(w, 0), axis=tuple(range(len(w.shape) - 1)), keepdims=True)
        return w / keras.ops.maximum(total, 1e-3)


@keras.saving.register_keras_serializable("keras_rar")
class AtMost(keras.constraints.Constraint):
    """Takes weights above `limit` down to it.

    Args:
        limit: Float.

    Example:

    >>> AtMost(-0.1)(np.array([0.3, -0.2])).numpy()
    array([-0.1, -0.2])
    """

    def __init__(self, limit: float):
        self.limit = checks.real("limit", limit)

    def __call__(self, w):
        return keras.ops.minimum(w, self.limit)

    def get_config(self) -> dict:
        return {"limit": self.limit}


def dead_zone(layer: keras.layers.Layer, width: float | None) -> None:
    """Keep a layer's units off wherever all that they see lies between 0 and `width`.

    A unit ReLU(⟨w, z⟩ + b) whose positive weights sum to 1 and whose bias is at most −`width` is 0 there, and so are
    its derivatives: what an attack adds to an empty background moves neither the prediction nor the map through it.
    The next layer can undo the scale, so that only a unit's threshold is restricted.

    The constraints hold from now on and after every update. They are in the layer's config: lift them with a `width`
    of `None` before saving a model that is to be loaded without this package.

    Args:
        layer: A built `Dense`, `Conv1D`, `Conv2D` or `Conv3D` with a bias, followed by ReLU, whose inputs are >= 0.
        width: Float > 0, in units of the inputs, at least ε; `None` lifts the constraints.

    Raises:
        ValueError: If the layer is of another kind, not built, or without a bias.

    Example:

    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu")])
    >>> dead_zone(network.layers[0], 0.2)
    >>> bool(np.any(network(np.full([1, 4], 0.19))))
    False
    """
    known = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    if not isinstance(layer, known) or not layer.built or layer.bias is None:
        checks.fail("layer", "a built Dense, Conv1D, Conv2D or Conv3D with a bias", layer)
    of_kernel, of_bias = None, None
    if width is not None:
        of_kernel, of_bias = UnitPositiveSum(), AtMost(-checks.positive_float("width", width))
    layer.kernel_constraint, layer.bias_constraint = of_kernel, of_bias
    for variable, constraint in ((layer.kernel, of_kernel), (layer.bias, of_bias)):
        variable.constraint = constraint
        if constraint is not None:
            variable.assign(constraint(variable))
