"""`RARModel`: a Keras classifier trained for robust attributions."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import checks, labels
from keras_rar.methods.regularizer import AbstractAttributionRegularizer, probe
from keras_rar.networks.base_model import check_base_model
from keras_rar.networks.export import export_saved_model
from keras_rar.networks.losses import ClassificationLoss
from keras_rar.networks.output import OutputHead
from keras_rar.training import update
from keras_rar.training.chunks import Chunks
from keras_rar.training.guard import StepGuard
from keras_rar.training.problem import Problem
from keras_rar.training.state import load_state, save_state


@keras.saving.register_keras_serializable("keras_rar")
class RARModel(keras.Model):
    """A classifier whose `fit` minimises the objective of a regularizer.

    `min_θ E[ objective(x, x*) ],  x* = argmax_{x′ ∈ N(x, ε)} ascended(x, x′)` (Chen et al. 2019).

    `call`, `predict` and `evaluate` are the base model's. Compile and fit it as any Keras model, with
    one loss. The history shows `loss`, every term of the objective by name, and the compiled metrics on
    the clean batch. Usually made by `keras_rar.wrap`.

    Args:
        base_model: A built Keras 3 classifier with one input and one output.
        regularizer: An `AbstractAttributionRegularizer`.
        on_nonfinite: `"skip"` or `"raise"`: what to do with an update that is NaN or infinite.
        seed: Integer seed of the random starts, or `None` for a random one.
        name: Name of the model.
        trainable: Whether the weights of the base model are. Defaults to `True`.

    Raises:
        TypeError: If `base_model` is not a Keras 3 model or `regularizer` is not a regularizer.
        ValueError: If the model is not built, or has several inputs or outputs.

    Example:

    >>> base_model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model = keras_rar.RARModel(base_model, keras_rar.IGSumNormRegularizer(epsilon=0.1))
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.random.uniform(size=(8, 4)), np.arange(8) % 3
    >>> sorted(model.fit(x, y, verbose=0).history)
    ['ig_l1', 'loss', 'perturbed_loss']
    """

    train_function: Any
    wraps_a_model = True  # how `networks.base_model.is_wrapped` knows it, also a subclass

    def __init__(
        self,
        base_model: keras.Model,
        regularizer: AbstractAttributionRegularizer,
        *,
        on_nonfinite: str = "skip",
        seed: int | None = None,
        name: str | None = None,
        trainable: bool = True,
    ):
        self._input_shape, self._classes = check_base_model(base_model)
        if not isinstance(regularizer, AbstractAttributionRegularizer):
            checks.fail("regularizer", "an AbstractAttributionRegularizer", regularizer, TypeError)
        checks.one_of("on_nonfinite", on_nonfinite, ["skip", "raise"])
        super().__init__(name=name, dtype=base_model.dtype_policy)
        self.base_model = base_model
        self.regularizer = regularizer
        self.on_nonfinite = on_nonfinite
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._head = OutputHead(base_model)
        self._problem: Problem | None = None
        self._functions: dict[tuple[str, int], Callable] = {}
        self._chunks = Chunks(self._head, regularizer, self._input_shape)
        self._guard = StepGuard(regularizer.bounds, self._classes, on_nonfinite)
        for option in regularizer.bounds or ():
            checks.broadcasts("bounds", option, self._input_shape)
        checks.broadcasts("baseline", regularizer.baseline, self._input_shape)
        self._reads = probe(regularizer, self._input_shape, self._classes)
        self._term_means = {term: keras.metrics.Mean(name=term) for term in self._reads.reported}
        if not trainable:
            self.trainable = False
        self.build((None, *self._input_shape))

    # A Keras model: the base model, compiled for one loss

    def build(self, input_shape: Any) -> None:
        self.built = True  # as the base model is, or it would have been refused

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.base_model(inputs, training=training)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, loss_weights: Any = None, **kwargs: Any) -> None:
        """Configure the model for training, as `keras.Model.compile`, with one loss.

        Raises:
            ValueError: If there is no loss, or it does not fit the output (logits or probabilities).
        """
        if loss_weights is not None:
            checks.fail("loss_weights", "None, since there is one output", loss_weights)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        loss_of_logits = ClassificationLoss(self.loss, self._head)
        self._problem = Problem(self._head, loss_of_logits, self.regularizer, self._reads, self._chunks)
        self._batch_mean = update.BatchMean("objective", loss_of_logits.reduction, dtype=self.variable_dtype)
        self._functions = {}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def export(self, filepath: Any, format: str = "tf_saved_model", **kwargs: Any) -> None:
        """Export for inference: `keras_rar.export_saved_model`; other formats export the base model.

        Args:
            filepath: Directory or file to write.
            format: As for `keras.Model.export`. Defaults to `"tf_saved_model"`.
            **kwargs: Options of `keras_rar.export_saved_model`, or of `keras.Model.export`.
        """
        if format != "tf_saved_model":
            return self.base_model.export(filepath, format=format, **kwargs)
        export_saved_model(self, filepath, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "base_model": keras.saving.serialize_keras_object(self.base_model),
            "regularizer": keras.saving.serialize_keras_object(self.regularizer),
            "on_nonfinite": self.on_nonfinite,
            "seed": self.seed,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "RARModel":
        nested = {
            key: keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
            for key in ("base_model", "regularizer")
        }
        return cls(**{**config, **nested})

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        save_state(self, store)  # so that a loaded model goes on as this one would

    def load_own_variables(self, store: Any) -> None:
        self._guard.skipped = load_state(self, store)

    @property
    def skipped_updates(self) -> int:
        """Number of updates skipped so far because the loss or its gradient was NaN or infinite."""
        return self._guard.skipped

    # The method: inner maximum, attributions, objective

    def perturb(self, x: Any, y: Any, seed: int | None = None) -> tf.Tensor:
        """The inner maximum: x* in N(x, ε), by projected ascent. Changes no weight and no statistic.

        Args:
            x: Tensor of shape `(batch, ...)`, in the units of `bounds`.
            y: Labels, as for `fit`.
            seed: Integer seed of the random start. Defaults to the next one of `seed_generator`.

        Returns:
            Tensor of the shape of `x`; `x` itself for a method without an inner maximum.
        """
        x, y = self._check_arguments(x, y)
        state = self._next_seed() if seed is None else tf.constant([seed, 0], tf.int64)
        return self._function(self._compiled.inner_maximum, x)(x, y, state)

    def attributions(self, x: Any, x_prime: Any, y: Any) -> tf.Tensor:
        """`IG(x, x′)` of the compiled loss, by the quadrature rule of the regularizer.

        Args:
            x: Tensor of shape `(batch, ...)`, the start of the segment.
            x_prime: Tensor of the shape of `x`, its end.
            y: Labels, as for `fit`.

        Returns:
            Tensor of the shape of `x`, in units of the loss.
        """
        segment = self._check_segment(x, x_prime, y)
        return self._function(self._compiled.attributions, segment[0])(*segment)

    def objective(self, x: Any, x_prime: Any, y: Any) -> tf.Tensor:
        """The objective of each example, every term in inference mode.

        Args:
            x: Tensor of shape `(batch, ...)`, the clean input.
            x_prime: Tensor of the shape of `x`, the perturbed input.
            y: Labels, as for `fit`.

        Returns:
            Tensor of shape `(batch,)`.
        """
        segment = self._check_segment(x, x_prime, y)
        return self._function(self._compiled.objective, segment[0])(*segment)

    def _function(self, method: Callable, x: tf.Tensor) -> Callable:
        """The method as a compiled function, made once for each `compile`; for larger batches another, of its chunk."""
        if self.run_eagerly:
            return method
        largest = 1 << max(5, ((x.shape[0] or 1) - 1).bit_length()) if self._chunks.is_automatic else 0
        key = method.__name__, largest

        def traced(*arguments):
            before, self._chunks.batch_size = self._chunks.batch_size, largest
            try:
                return method(*arguments)
            finally:
                self._chunks.batch_size = before

        if key not in self._functions:
            options = {"reduce_retracing": True, "jit_compile": self.jit_compile, "autograph": False}
            self._functions[key] = tf.function(traced, **options)
        return self._functions[key]

    def _next_seed(self) -> tf.Tensor:
        """A new seed, another one on each replica."""
        replica = tf.distribute.get_replica_context()
        offset = 0 if replica is None else replica.replica_id_in_sync_group
        return tf.cast(self.seed_generator.next(), tf.int64) + tf.cast(tf.stack([offset, 0]), tf.int64)

    @property
    def _compiled(self) -> Problem:
        if self._problem is None:
            raise ValueError("Call `compile()` first: attributions are of the compiled loss.")
        return self._problem

    def _check_arguments(self, x: Any, y: Any) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = self._check_batch(x, y)
        if tf.executing_eagerly():
            self._guard.check(x, y)
        return x, y

    def _check_segment(self, x: Any, x_prime: Any, y: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        x, y = self._check_arguments(x, y)
        x_prime = tf.cast(x_prime, x.dtype)
        if not x_prime.shape.is_compatible_with(x.shape):
            raise ValueError(
                f"`x_prime` must have the shape of `x`, {tuple(x.shape)}. Received: {tuple(x_prime.shape)}"
            )
        return x, x_prime, y

    def _check_batch(self, x: Any, y: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """What dtypes and shapes tell, before anything is computed."""
        takes_indices = self._compiled.loss.takes_indices
        x, y = self._guard.check_layout(x, y, takes_indices)
        return tf.cast(x, self.variable_dtype), y

    # Training

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as `keras.Model.fit`.

        Raises:
            TypeError: If the inputs are not floating point.
            ValueError: If a batch is empty, not finite or outside `bounds`, or a label is not one.
            FloatingPointError: If an update is not finite, with `on_nonfinite="raise"`.
        """
        if getattr(x, "shape", None) and x.shape[0] == 0:  # Keras would return without a word
            raise ValueError("`x` must hold at least one example. Received: an empty array")
        batch_size = _batch_size(x, *args, **kwargs)
        if batch_size > self._chunks.batch_size and self._chunks.is_automatic:
            self.train_function = None  # its chunks are those of smaller batches
        self._chunks.batch_size = batch_size
        return super().fit(x, *args, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """Keras's own, followed by the report of the guard, in Python, after each call."""
        if self.train_function is not None and not force:
            return
        super().make_train_function(force)
        step: Callable = self.train_function

        def guarded_step(iterator):
            logs = step(iterator)
            self._guard.report()
            return logs

        self.train_function = guarded_step

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One update: maximise in x′, then descend in θ."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, y = self._check_batch(x, y)
        faults = self._guard.inspect(x, y)
        y = labels.replace_invalid(y, self._classes)
        state = self.base_model.non_trainable_variables
        before = [tf.convert_to_tensor(variable) for variable in state]
        layer_losses: list[tf.Tensor] = []

        def logits(z, training):
            scores = self._head.logits(z, training)
            if training:  # weight decay and activity, of this pass alone
                layer_losses.extend(self._head.layer_losses)
            return scores

        with tf.control_dependencies([x]):  # no seed is spent where a data set turns out to have ended
            seed = self._next_seed()
        x_star = self._compiled.inner_maximum(x, y, seed)
        with tf.GradientTape() as tape:
            terms = self._compiled.terms(x, x_star, y, self.regularizer.training_rule, logits=logits, training=True)
            objective = self.regularizer.objective(terms)
            terms.ensure_classified()
            loss = self._batch_mean(objective, objective, sample_weight)
            for layer_loss in layer_losses:
                loss += tf.cast(tf.reduce_sum(layer_loss), loss.dtype) / update.replicas()
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_loss, variables)

        healthy = self._guard.record(x, faults, update.is_finite(loss, gradients, self.optimizer))
        update.apply_or_undo(healthy, self.optimizer, gradients, variables, state, before)
        self._track("loss", loss, x, healthy)
        for name, value in terms.reported.items():
            self._track(name, self._batch_mean(value, value, sample_weight), x, healthy)
        y_pred = self._head.activate(terms.clean_logits)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Keras's own evaluation, of the base model on clean data."""
        logs = super().test_step(data)
        return {name: value for name, value in logs.items() if name not in self._term_means}

    def _track(self, name: str, value: tf.Tensor, x: tf.Tensor, healthy: tf.Tensor) -> None:
        """Update a mean of the history, by batch size, as Keras does; a skipped step counts for nothing."""
        metric = self._term_means.get(name) or next(m for m in self.metrics if m.name == name)
        weight = tf.where(healthy, tf.cast(tf.shape(x)[0], "float32"), 0.0)
        value = tf.cast(value, "float32") * update.replicas()
        metric.update_state(tf.where(healthy, value, 0.0), sample_weight=weight)


def _batch_size(x: Any, y: Any = None, batch_size: int | None = None, *_: Any, **__: Any) -> int:
    """The batch size of a fit, as far as its arguments tell."""
    specs = keras.tree.flatten(getattr(x, "element_spec", None))
    return batch_size or (specs[0].shape[0] if specs and specs[0] is not None and specs[0].shape.rank else None) or 32
