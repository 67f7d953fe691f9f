"""`RARModel`: a Keras classifier trained for robust attributions."""

from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.methods.loss_regularizers import adversarial
from keras_rar.methods.reads import probe
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.networks import differentiable
from keras_rar.networks.attributed import attributed_at
from keras_rar.networks.base_model import check_base_model, one_input_shape
from keras_rar.networks.export import export_saved_model
from keras_rar.networks.kept import are_independent
from keras_rar.networks.losses import ClassificationLoss
from keras_rar.networks.output import OutputHead, head_of
from keras_rar.networks.structure import only
from keras_rar.networks.tail import tail_of
from keras_rar.training import freezing, update
from keras_rar.training.chunks import Chunks
from keras_rar.training.functions import Functions
from keras_rar.training.guard import StepGuard
from keras_rar.training.history import History
from keras_rar.training.parts_of_method import MethodModel
from keras_rar.training.problem import Problem
from keras_rar.training.state import load_state, save_state
from keras_rar.training.step import Step


@keras.saving.register_keras_serializable("keras_rar")
class RARModel(MethodModel):
    """A classifier whose `fit` minimises the objective of a regularizer.

    `min_θ E[ objective(x, x*) ],  x* = argmax_{x′ ∈ N(x, ε)} ascended(x, x′)` (Chen et al. 2019).

    `call`, `predict` and `evaluate` are the base model's. Compile and fit it as any Keras model, with
    one loss. The history shows `loss`, every term of the objective by name, and the compiled metrics on
    the clean batch, each the mean over the updates of an epoch that were kept. What was not measured in an epoch is
    NaN: everything if all updates were skipped, and a term before it begins. Usually made by `keras_rar.wrap`.

    Args:
        base_model: A built Keras 3 classifier with one input and one output, each also as a dictionary or list of one.
        regularizer: An `AbstractAttributionRegularizer`. Its schedules follow the `iterations` of the optimizer.
        on_nonfinite: `"skip"` or `"raise"`: what to do with an update whose loss or gradient, or what it would write
            to weights, statistics and optimizer, is NaN or infinite.
        seed: Integer seed of the random starts, or `None` for a random one.
        layer: Name of a layer whose output is perturbed and explained in place of the input, as for `wrap`.
        batch_statistics: What batch normalisation does while maps are compared, as for `wrap`.
        attribution_layer: Name of a layer whose output the change of the loss is attributed to, as for `wrap`.
        name: Name of the model.
        trainable: Whether the weights of the base model are. Defaults to `True`.

    Raises:
        TypeError: If `base_model` is not a Keras 3 model or `regularizer` is not a regularizer.
        ValueError: If the model is not built, has several inputs or outputs or no such layer; if a setting is 0 or
            infinite in the precision of the model, or `begin` is given to a method without an attribution term.

    Example:

    >>> base_model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model = keras_rar.RARModel(base_model, keras_rar.IGSumNormRegularizer(epsilon=0.1))
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.random.uniform(size=(8, 4)), np.arange(8) % 3
    >>> sorted(model.fit(x, y, verbose=0).history)
    ['ig_l1', 'loss', 'perturbed_loss']
    """

    wraps_a_model = True  # how `networks.base_model.is_wrapped` knows it, also a subclass

    def __init__(
        self,
        base_model: keras.Model,
        regularizer: AbstractAttributionRegularizer,
        *,
        on_nonfinite: str = "skip",
        seed: int | None = None,
        layer: str | None = None,
        batch_statistics: str = "auto",
        attribution_layer: str | None = None,
        name: str | None = None,
        trainable: bool = True,
    ):
        seen = base_model if layer is None else tail_of(base_model, layer)
        self._input_shape, self._classes = check_base_model(seen)
        if not isinstance(regularizer, AbstractAttributionRegularizer):
            checks.fail("regularizer", "an AbstractAttributionRegularizer", regularizer, TypeError)
        checks.one_of("on_nonfinite", on_nonfinite, ["skip", "raise"])
        super().__init__(name=name, dtype=base_model.dtype_policy)
        self.base_model = base_model
        self.regularizer = regularizer
        self.on_nonfinite = on_nonfinite
        self.seed = seed if seed is None else checks.integer("seed", seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.layer, self.attribution_layer = layer, attribution_layer
        self.batch_statistics = checks.one_of("batch_statistics", batch_statistics, freezing.SETTINGS)
        if layer is not None and regularizer.price is not None and seen.columns.holds:
            checks.fail("price", "None at a layer with padding or a way past it", regularizer.price)
        head_of(seen)  # refuses a model whose logits are out of reach
        known = self._input_shape, self._classes, layer is not None and seen.by_rows
        self._methods = {"whole": regularizer}  # what is trained with, and what with before `begin`
        if regularizer.begin:
            self._methods["adversarial"] = adversarial(regularizer)
        self._reads = {part: probe(method, *known) for part, method in self._methods.items()}
        if attribution_layer is not None:
            self._check_attributed(attribution_layer)
        reads = self._reads["whole"]
        if reads.perturbs or reads.integrates:
            differentiable.check_trained(seen, 2 if reads.integrates else 1)
        if regularizer.begin and not reads.integrates:
            checks.fail("begin", "0 for a method without an attribution term", regularizer.begin)
        self._steps = {}
        self._guard = StepGuard(regularizer.bounds, self._classes, on_nonfinite, layer is not None)
        regularizer.check_precision(self.variable_dtype)
        regularizer.check_shape(self._input_shape if layer is None else seen.shape)
        self._history = History(self, {name: None for reads in self._reads.values() for name in reads.reported})
        self._term_means = self._history.terms  # so that Keras finds these metrics
        if not trainable:
            self.trainable = False
        self.build(one_input_shape(base_model))

    def _check_attributed(self, name: str) -> None:
        """Refuse a layer that the change of the loss cannot be attributed to, or a method without that term."""
        if self.layer is not None:
            checks.fail(
                "attribution_layer", "None where `layer` is given, whose output is perturbed and explained", name
            )
        if "attributions" not in vars(self._reads["whole"].outline):
            checks.fail("attribution_layer", "None for a method that does not read `terms.attributions`", name)
        attributed_at(self.base_model, name)

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
        if isinstance(loss, (dict, list, tuple)) and len(loss) != 1:
            raise ValueError(f"`compile` needs one loss, for the one output. Received: loss={loss!r}")
        self._steps = {}
        super().compile(optimizer=optimizer, loss=only("loss", loss), **kwargs)
        self.regularizer.check_labels(are_independent(self._classes, head_of(self.seen).activation, self))
        integrates = self._reads["whole"].integrates
        self.batch_statistics = freezing.decided(self.batch_statistics, self.base_model, self.regularizer, integrates)
        self._make_steps()

    @property
    def seen(self) -> keras.Model:
        return self.base_model if self.layer is None else tail_of(self.base_model, self.layer)

    def _make_steps(self) -> None:
        """The steps of the training, for the network as it is now."""
        head = head_of(self.seen)
        loss = ClassificationLoss(self.loss, head)
        self._steps = {part: self._make_step(part, head, loss) for part in self._methods}
        self._functions = Functions(self._steps["whole"].problem.chunks, self.jit_compile)
        self.train_function = None

    def _make_step(self, part: str, head: OutputHead, loss: ClassificationLoss) -> Step:
        method = self._methods[part]
        attributed = None
        if self.attribution_layer is not None:
            attributed = attributed_at(self.base_model, self.attribution_layer)
        chunks = Chunks(head, method, self._input_shape, attributed is not None)
        reads = self._reads[part]
        frozen = self.batch_statistics == "frozen" and reads.integrates
        problem = Problem(head, loss, method, reads, chunks, lambda: self.optimizer.iterations, frozen, attributed)
        return Step(self, problem, self._guard, update.BatchMean("mean", loss.reduction, dtype=self.variable_dtype))

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

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Save the model in a `.keras` file, as `keras.Model.save`.

        Raises:
            ValueError: If the file is of the old HDF5 format, which has no place for the method.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            checks.fail("filepath", "a .keras file; keras_rar.unwrap(model) can be saved as .h5", str(filepath))
        super().save(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "base_model": keras.saving.serialize_keras_object(self.base_model),
            "regularizer": keras.saving.serialize_keras_object(self.regularizer),
            "on_nonfinite": self.on_nonfinite,
            "seed": self.seed,
            "layer": self.layer,
            "batch_statistics": self.batch_statistics,
            "attribution_layer": self.attribution_layer,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "RARModel":
        names = "base_model", "regularizer"
        objects = [keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects) for name in names]
        return cls(**{**config, **dict(zip(names, objects, strict=True))})

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        save_state(self, store)  # so that a loaded model goes on as this one would

    def load_own_variables(self, store: Any) -> None:
        self._guard.skipped = load_state(self, store)

    @property
    def skipped_updates(self) -> int:
        """Number of updates skipped or undone so far because something in them was NaN or infinite."""
        return self._guard.skipped
