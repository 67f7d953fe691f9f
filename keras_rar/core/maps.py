"""What all similarities of maps share: how maps are read, and the value of 0/0."""

import math
from typing import Any

import tensorflow as tf

from keras_rar.core import checks

NARROW = (tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint16, tf.float16, tf.bfloat16, tf.float32)


def as_map(name: str, m: Any) -> tf.Tensor:
    """Real numbers as a float32 tensor, or as float64 where float32 cannot hold them."""
    m = tf.convert_to_tensor(m)
    if not (m.dtype.is_floating or m.dtype.is_integer or m.dtype.is_bool):
        checks.fail(name, "real numbers", m.dtype.name, TypeError)
    return tf.cast(m, tf.float32 if m.dtype in NARROW else tf.float64)


def flat(m: tf.Tensor) -> tf.Tensor:
    """Each map in one row, `(batch, entries)`."""
    batch, *entries = m.shape
    return tf.reshape(m, [tf.shape(m)[0] if batch is None else batch, math.prod(entries)])


def pair(a: Any, b: Any, rank: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
    """Both maps as tensors; a `ValueError` if their shapes differ or do not have that rank."""
    a, b = as_map("a", a), as_map("b", b)
    fits = a.shape.rank is not None and (a.shape.rank >= 2 if rank is None else a.shape.rank == rank)
    if not (
        fits and a.shape[1:].is_fully_defined() and a.shape[1:] == b.shape[1:] and a.shape.is_compatible_with(b.shape)
    ):
        shape = "(batch, height, width)" if rank == 3 else "(batch, ...)"
        raise ValueError(
            f"`a` and `b` must be maps of one shape {shape}, in which only the batch may be unknown. "
            f"Received: shapes {a.shape} and {b.shape}"
        )
    return a, b


def score_dtype(a: tf.Tensor, b: tf.Tensor) -> tf.DType:
    """The precision of a score of two maps: float64 if one of them has it, else float32."""
    return tf.float64 if tf.float64 in (a.dtype, b.dtype) else tf.float32


def finish(score: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The score in the precision of the maps; NaN where one of them has a NaN."""
    dtype = score_dtype(a, b)
    nan = tf.reduce_any(tf.math.is_nan(flat(a)), axis=1) | tf.reduce_any(tf.math.is_nan(flat(b)), axis=1)
    return tf.where(nan, tf.constant(math.nan, dtype), tf.cast(score, dtype))


def quotient(product: tf.Tensor, square_a: tf.Tensor, square_b: tf.Tensor) -> tf.Tensor:
    """`product / √(square_a · square_b)`; where a square is 0, it is 1 if both are 0, and otherwise 0."""
    product, square_a, square_b = (tf.cast(value, tf.float64) for value in (product, square_a, square_b))
    singular = (square_a == 0) | (square_b == 0)
    quotient = product / tf.sqrt(tf.where(singular, tf.ones_like(product), square_a * square_b))
    quotient = tf.where(
        tf.abs(quotient) > 1, tf.sign(quotient), quotient
    )  # after rounding; tf.clip_by_value may drop a NaN
    return tf.where(singular, tf.cast(square_a == square_b, tf.float64), quotient)
