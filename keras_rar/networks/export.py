"""Export to a SavedModel that predicts and explains, and needs neither Keras nor keras_rar to run."""

import contextlib
import io
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import checks, quadrature
from keras_rar.core.channels import DataFormat
from keras_rar.core.gradients import repeat_labels
from keras_rar.core.held import NOTHING
from keras_rar.core.integration import integrated_gradients
from keras_rar.core.labels import label_logit
from keras_rar.core.saliency_methods import normalize_map
from keras_rar.networks.base_model import baseline_of, check_base_model, input_structure, is_wrapped, one_input_shape
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.copies import copy_with
from keras_rar.networks.output import head_of
from keras_rar.networks.tail import tail_of


def export_saved_model(
    model: keras.Model,
    path: str | Path,
    *,
    baseline: Any = "auto",
    rule: str = "right",
    m: int = 100,
    chunk: int = 10,
    layer: str | None = None,
    data_format: DataFormat = "auto",
    verbose: bool = False,
) -> None:
    """Write a TensorFlow SavedModel with the endpoints `serve` and `attribute`.

    `serve(x)` is the base model's output. `attribute(x)` is the saliency map of the predicted class,
    `Mⱼ ∝ Σ_c |IG_jc(baseline, x)|` of the class's logit, scaled to sum to its number of entries, as in the paper.
    Both take any batch size; the memory of `attribute` is that of `chunk` nodes.

    Args:
        model: A `RARModel` or any Keras classifier with one input and one output.
        path: Directory to write.
        baseline: Float, or array that broadcasts to an input: where the segment begins. Defaults to `"auto"`: that of
            the training of a `RARModel` at this layer, or `0.`.
        rule: Name of the quadrature rule. Defaults to `"right"`.
        m: Integer > 0, number of nodes. Defaults to `100`.
        chunk: Integer > 0, number of nodes evaluated at once. Defaults to `10`.
        layer: Name of a layer whose output is explained in place of the input, as `"embedding"` for words, with one
            value per word; `baseline` is of its output. Defaults to that of the training of a `RARModel`, or the input.
        data_format: Where inputs have their channels: `"channels_last"`, `"channels_first"`, `"none"`, or `"auto"`, as
            `keras_rar.saliency_map` finds it. Defaults to `"auto"`.
        verbose: Whether to print the endpoints. Defaults to `False`.

    Raises:
        ValueError: If an argument is out of range, or the model is not a classifier with one input that can be wrapped.

    Example:

    >>> model = keras_rar.wrap(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    >>> export_saved_model(model, tmp_path / "served")
    >>> served = tf.saved_model.load(tmp_path / "served")
    >>> served.attribute(tf.ones([2, 4])).shape
    TensorShape([2, 4])
    """
    base_model = model.base_model if is_wrapped(model) else model
    layer = getattr(model, "layer", None) if layer is None and is_wrapped(model) else layer
    seen = base_model if layer is None else tail_of(base_model, layer)
    input_shape, columns = check_base_model(seen)[0], getattr(seen, "columns", NOTHING)
    dtype, inputs = base_model.variable_dtype, input_shape
    if layer is not None:
        inputs = one_input_shape(base_model)[1:]
        dtype = keras.tree.flatten(input_structure(base_model))[0].dtype
    nodes, chunk = quadrature.get(rule, m), checks.positive_int("chunk", chunk)
    baseline = checks.baseline("baseline", baseline_of(model, layer, baseline))
    checks.broadcasts("baseline", baseline, getattr(seen, "shape", input_shape))
    layout = data_format_of(seen, input_shape, data_format)
    head, network = head_of(seen), copy_with(base_model)

    def serve(x):
        return network(x, training=False)

    def attribute(x):
        x = x if layer is None else seen.entered(x)
        predicted = tf.argmax(head.logits(x), axis=-1)

        def predicted_logit(z):
            return head.gradient_scale * label_logit(repeat_labels(predicted, tf.shape(z)[0]), head.logits(z))

        found = integrated_gradients(predicted_logit, columns.start(baseline, x), x, nodes, chunk=chunk)
        return normalize_map(columns.free(found), layout)

    signature = [tf.TensorSpec((None, *inputs), dtype, name="x")]
    archive = keras.export.ExportArchive()
    archive.track(network)  # Keras changes what it tracks
    archive.add_endpoint("serve", serve, input_signature=signature)
    archive.add_endpoint("attribute", attribute, input_signature=signature)
    with contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO()):  # Keras 3.9 always prints
        archive.write_out(str(path), verbose=verbose)
