"""Maps by saliency functions and objects of the user's: one per example, of that example alone, or refused."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from keras_rar.core import channels, checks
from keras_rar.core.held import NOTHING, Columns
from keras_rar.core.saliency_methods import METHODS, Saliency, normalize_map
from keras_rar.explaining.settled import check_baseline
from keras_rar.networks.classifier import Classifier

_ALIKE = 0.02
"""Share of a map's mean that two maps of one example may differ by: what batches of other sizes round differently."""


def as_maps(name: str, attributions: tf.Tensor, x: tf.Tensor, data_format: str) -> tf.Tensor:
    """The maps of attributions that have the shape of the inputs, or that of their maps, or one channel.

    Args:
        name: What the user calls the function, for errors.
        attributions: What it returned for the inputs.
        x: The inputs, `(batch, ...)`.
        data_format: Where they have their channels, one of `core.channels.DATA_FORMATS`.

    Raises:
        TypeError: If the attributions are no floating-point numbers.
        ValueError: If they are not one map per example.
    """
    attributions = tf.convert_to_tensor(attributions)
    if not attributions.dtype.is_floating:
        raise TypeError(f"`{name}` must return floating-point numbers. Received: dtype={attributions.dtype.name}")
    check_shape(name, attributions.shape, x.shape, [data_format])
    has_channels = attributions.shape.rank == x.shape.rank
    maps = normalize_map(attributions, data_format if has_channels else "none")
    if maps.shape.is_fully_defined():
        return maps
    return tf.ensure_shape(maps, [x.shape[0], *channels.map_shape(tuple(x.shape[1:]), data_format)])


def check_shape(name: str, found: Any, inputs: Any, data_formats: Iterable[str]) -> None:
    """Refuse the shape of attributions that are not one map per example; sizes may be unknown, `None`."""
    found, (batch, *sizes) = tf.TensorShape(found), tuple(inputs)
    allowed = [tuple(sizes)]
    for data_format in data_formats:
        allowed.append(channels.map_shape(tuple(sizes), data_format))
        if data_format == "none":
            continue
        allowed.append((*sizes[:-1], 1) if data_format == "channels_last" else (1, *sizes[1:]))
    fits = found.rank is not None and any(found.is_compatible_with([batch, *shape]) for shape in allowed)
    if not fits:
        shapes = " or ".join(str(("n" if batch is None else batch, *shape)) for shape in dict.fromkeys(allowed[:2]))
        raise ValueError(f"`{name}` must return one map per example, of shape {shapes}. Received: shape {found}")


def check_examples(name: str, explain: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], x: np.ndarray) -> None:
    """Refuse maps of two examples that are not finite, not repeatable, or not each of its example alone.

    Each is compared with its map in a batch of that example twice, so that nothing is rounded differently.

    Args:
        name: What the user calls the function, for errors.
        explain: Function of tensors `(x, y) -> maps`, as it is attacked.
        x: One or more inputs.
    """
    specs = tf.TensorSpec([2, *x.shape[1:]], x.dtype), tf.TensorSpec([2], tf.int64)
    traced = tf.function(lambda x, y: explain(x, y), autograph=False).get_concrete_function(*specs)

    def maps(*rows: int) -> np.ndarray:
        try:
            return traced(tf.constant(pair[list(rows)]), tf.constant(rows, tf.int64)).numpy()
        except tf.errors.InvalidArgumentError as error:  # a shape that was unknown until now
            what = error.message.splitlines()[0]
            raise ValueError(f"`{name}` must return one map per example, of one shape. Received: {what}") from error

    pair = np.stack([x[0], _another(x)])
    together, each = maps(0, 1), np.stack([maps(0, 0)[0], maps(1, 1)[1]])
    if not np.all(np.isfinite(each)) or not np.all(np.isfinite(together)):
        raise ValueError(f"`{name}` must return finite numbers. Received: NaN or infinite values")
    if not _alike(together, each):
        refuse_mixed(name) if _alike(together, maps(0, 1)) else _refuse_random(name)


def check_known(name: str, method: Any, classifier: Classifier) -> None:
    """Refuse what the user has written where a part of the inputs is held: it could change that part."""
    if classifier.columns.holds and callable(method) and type(method) not in METHODS.values():
        checks.fail(name, f"one of {list(METHODS)} at a layer that masks or inputs pass by", method)


def check_saliency(
    saliency: Saliency, explain: Callable[..., tf.Tensor], x: np.ndarray, data_format: str, columns: Columns = NOTHING
) -> None:
    """Refuse what `check_examples` refuses, of an object whose class the user has written; and a baseline per example.

    Broadcast over a batch, a baseline of its shape would be another one in batches of another size.
    """
    check_baseline(saliency, columns.free(x).shape[1:])
    if type(saliency) not in METHODS.values():
        check_examples("method", lambda x, y: as_maps("method", explain(x, y), x, data_format), x)


def of_function(
    function: Callable[..., Any], classifier: Classifier, x: np.ndarray, y: np.ndarray, data_format: str | None
) -> np.ndarray:
    """The attributions by a function of arrays, `(model, x, y) -> attributions`, that is not to be attacked.

    It is called once more for the first example alone. A function that is random may return another map then.
    """
    model, data_formats = classifier.model, channels.DATA_FORMATS if data_format is None else [data_format]
    found = np.asarray(function(model, x, y))
    if found.dtype.kind not in "fiu":
        raise ValueError(
            f"`method` must return one map per example, of real numbers. Received: dtype={found.dtype.name}"
        )
    check_shape("method", found.shape, x.shape, data_formats)
    if not np.all(np.isfinite(found)):
        raise ValueError("`method` must return finite numbers. Received: NaN or infinite values")
    if len(x) > 1:
        alone = [np.asarray(function(model, x[:1], y[:1]))]
        if not _alike(found[:1], alone[0]):
            alone.append(np.asarray(function(model, x[:1], y[:1])))
            if _alike(*alone):
                refuse_mixed("method")
    return found if found.dtype.kind == "f" else found.astype(classifier.dtype)


def refuse_mixed(name: str) -> NoReturn:
    raise ValueError(
        f"`{name}` must return one map per example, of that example alone. "
        "Received: maps that change with the other examples of a batch"
    )


def _refuse_random(name: str) -> NoReturn:
    raise ValueError(
        f"`{name}` must return the same map for the same example, or an attack measures its noise. "
        "Received: two different ones for one batch"
    )


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two batches of maps are equal but for rounding."""
    if a.shape != b.shape:
        return False
    a, b = (np.asarray(m, "float64").reshape(len(m), -1) for m in (a, b))
    return bool(np.all(np.abs(a - b).mean(axis=1) <= _ALIKE * np.abs(b).mean(axis=1)))


def _another(x: np.ndarray) -> np.ndarray:
    """The example that differs most from the first, made of it if there is none."""
    first = x[0].astype("float64")
    for others in (x[1:32], np.stack([np.flip(first), first / 2, first + 0.25])):
        distances = np.abs(others - first).sum(axis=tuple(range(1, others.ndim)))
        if np.any(distances > 0):
            break
    return others[np.argmax(distances)].astype(x.dtype)
