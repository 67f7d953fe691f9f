"""A block that networks can have behind their first layers, for maps that are less grainy.

`import keras_rar` registers it, so that saved networks that have it load.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_rar.core import checks


@keras.saving.register_keras_serializable(package="keras_rar")
class SmoothingBlock(keras.layers.Layer):
    """`x + conv(G * x)`: feature maps and, added to them, a mix of their Gaussian blur (Bhusal et al. 2026).

    G is a fixed Gaussian filter of `size` along each axis of places, the same in each channel, and conv a trained 1 × 1
    convolution. The authors put one behind the first block of a residual network and train it adversarially ("Training
    for Trustworthy Saliency Maps: Adversarial Training Meets Feature-Map Smoothing", arXiv 2603.07302). They report
    maps that change less where the input or the logits change little. The sum lets sharp features pass: the block does
    not make a network smooth, it offers it smooth features. With `mixed=False` it is the blur alone, a low-pass filter
    without weights; that also works at the input. It costs next to nothing, and has all derivatives.

    The form is that of the authors' code, where it is called a denoising block. There `size` is 3, and σ follows
    OpenCV's rule, `0.3 ((size − 1) / 2 − 1) + 0.8`, but with the width of the feature map for `size`: 5.15 for a width
    of 32, which makes 3 × 3 entries nearly a mean. Here the rule has the size of the filter. We could not compare
    either with the text of the paper beyond its abstract.

    LRP and DeepLIFT have no rule for it, and refuse a network that has one.

    Args:
        size: Odd integer >= 3, the size of the filter. Defaults to `3`.
        sigma: Float > 0, the standard deviation of the filter in places. Defaults to OpenCV's rule: 0.8 for size 3.
        mixed: Whether to add the convolved blur to the input, or return the blur alone. Defaults to `True`.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to `keras.config.image_data_format()`.
        **kwargs: As `keras.layers.Layer`.

    Raises:
        TypeError: If an argument is not of its type.
        ValueError: If an argument is out of range; when the block is built, if its input has no place axis, or fewer
            places than half of the filter, which is reflected at the border.

    Example:

    >>> spike = np.zeros((1, 5, 5, 1), "float32")
    >>> spike[0, 2, 2] = 1.0
    >>> keras_rar.SmoothingBlock(mixed=False)(spike).numpy()[0, 2, :, 0].round(2)
    array([0.  , 0.12, 0.27, 0.12, 0.  ], dtype=float32)
    """

    def __init__(
        self,
        size: int = 3,
        sigma: float | None = None,
        mixed: bool = True,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.size = checks.positive_int("size", size)
        if self.size < 3 or self.size % 2 == 0:
            checks.fail("size", "an odd integer >= 3", size)
        self.sigma = sigma if sigma is None else checks.positive_float("sigma", sigma)
        self.mixed = checks.boolean("mixed", mixed)
        formats = ["channels_last", "channels_first"]
        data_format = keras.config.image_data_format() if data_format is None else data_format
        self.data_format = checks.one_of("data_format", data_format, formats)

    @property
    def filter(self) -> list[float]:
        """The entries of G along one axis, which sum to 1."""
        half = self.size // 2
        sigma = 0.3 * (half - 1) + 0.8 if self.sigma is None else self.sigma
        heights = [math.exp(-((k / sigma) ** 2) / 2) for k in range(-half, half + 1)]
        return [height / sum(heights) for height in heights]

    def build(self, input_shape: Any) -> None:
        channel = self._channel(len(input_shape))
        places = [size for axis, size in enumerate(input_shape) if axis not in (0, channel)]
        if not places or any(size is not None and size <= self.size // 2 for size in places):
            checks.fail("inputs", f"maps of more than {self.size // 2} places along each axis", tuple(input_shape))
        if self.mixed:
            channels = input_shape[channel]
            self.kernel = self.add_weight(shape=(channels, channels), initializer="glorot_uniform", name="kernel")
            self.bias = self.add_weight(shape=(channels,), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        channel = self._channel(len(inputs.shape))
        smooth = inputs
        for axis in range(1, len(inputs.shape)):
            smooth = smooth if axis == channel else self._blurred(smooth, axis)
        if not self.mixed:
            return smooth
        convolved = ops.matmul(ops.moveaxis(smooth, channel, -1), self.kernel) + self.bias
        return inputs + ops.moveaxis(convolved, -1, channel)

    def _blurred(self, x: Any, axis: int) -> Any:
        """The filter along one axis, as a sum of shifted maps: so any device, format and derivative has it."""
        half = self.size // 2
        x = ops.pad(x, [(half, half) if i == axis else (0, 0) for i in range(len(x.shape))], mode="reflect")
        places = [[slice(None)] * axis + [slice(k, k - 2 * half or None)] for k in range(self.size)]
        return sum(height * x[tuple(place)] for height, place in zip(self.filter, places, strict=True))

    def _channel(self, rank: int) -> int:
        return rank - 1 if self.data_format == "channels_last" else 1

    def get_config(self) -> dict[str, Any]:
        names = ("size", "sigma", "mixed", "data_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
