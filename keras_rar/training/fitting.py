"""How a model with a min-max problem is fitted: `fit`, the training function and the steps, as Keras calls them."""

import abc
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import discrete, labels
from keras_rar.core.replicas import Part
from keras_rar.networks.output import head_of
from keras_rar.networks.structure import only
from keras_rar.training.begin import Begin
from keras_rar.training.cluster import BUILD, as_logs, check_alike, check_divides, first_part
from keras_rar.training.guard import StepGuard
from keras_rar.training.history import History
from keras_rar.training.problem import Problem
from keras_rar.training.step import Step


class MinMaxModel(keras.Model):
    """A Keras model whose `fit` runs a `Step` on every batch; the base class of `RARModel`, which says which."""

    train_function: Any
    base_model: keras.Model
    seed_generator: keras.random.SeedGenerator
    _guard: StepGuard
    _history: History
    _steps: dict[str, Step]  # "whole", and before `begin` "adversarial"
    _begin: Begin | None = None  # of the `fit` that runs
    _evaluates = False  # without the terms, or Keras would take the mean of the replicas' means of the last step

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as `keras.Model.fit`.

        With `begin`, epochs are counted as Keras counts them, from 0 to `epochs`, also if this `fit` resumes another
        at `initial_epoch`. A share is of `epochs`; if the length of the data is unknown, or where it falls within a
        call of several steps, the term begins with the next epoch or call. Callbacks that watch the training's `loss`
        or a term, such as `EarlyStopping`, start anew when the term begins.

        Raises:
            TypeError: If the inputs are not floating point.
            ValueError: If a batch is empty, not finite or outside `bounds`, a label is not one, or there are no data;
                if a batch of several workers does not divide evenly.
            FloatingPointError: If an update is not finite, with `on_nonfinite="raise"`.
        """
        if any(getattr(part, "shape", None) and part.shape[0] == 0 for part in keras.tree.flatten(x)):
            raise ValueError("`x` must hold at least one example. Received: an empty array")  # Keras says nothing
        bound = inspect.signature(keras.Model.fit).bind(self, x, *args, **kwargs)
        arguments = bound.arguments
        if "y" in arguments:
            arguments["y"] = only("y", arguments["y"])
        self._warn_of_discrete(x)
        batch_size = _batch_size(x, arguments.get("batch_size"))
        check_divides(self.distribute_strategy, batch_size)
        self._set_batch_size(batch_size)
        given: Any = arguments.get("callbacks")
        in_list = isinstance(given, keras.callbacks.CallbackList)
        callbacks = list(given.callbacks) if in_list else keras.tree.flatten(given or [])
        watched = {"loss", *self._history.terms}
        begin = self._compiled.regularizer.begin if self._steps else 0  # Keras says that it is not compiled
        self._begin = Begin(begin, watched, callbacks)
        if in_list:
            self._begin.set_params(given.params)
            given.callbacks.append(self._begin)
        else:
            arguments["callbacks"] = [self._begin, *callbacks]
        try:
            return super().fit(*bound.args[1:], **bound.kwargs)
        finally:
            if in_list:
                given.callbacks.remove(self._begin)
            self._begin = None

    def _warn_of_discrete(self, x: Any) -> None:
        """Say which columns of a table change to values that no example has; of arrays, not of data sets."""
        part = next(iter(keras.tree.flatten(x)), None) if isinstance(x, (dict, list, tuple)) else x
        at_input = self._steps and self._compiled.tail is None
        shape = getattr(part, "shape", ())
        if at_input and self._compiled.reads.perturbs and len(shape) == 2:
            free = self._compiled.regularizer.neighborhood.free(shape[1:])
            if sentence := discrete.said(part, free, getattr(part, "columns", None)):
                warnings.warn(sentence, RuntimeWarning, stacklevel=3)

    def _set_batch_size(self, batch_size: int | None) -> None:
        for step in self._steps.values():
            chunks = step.problem.chunks
            known, chunks.batch_size = chunks.batch_size, batch_size
            if chunks.is_automatic and known is not None and (batch_size is None or batch_size > known):
                self.train_function = None  # its chunks are those of smaller batches

    def make_train_function(self, force: bool = False) -> None:
        """Keras's own, one for each part of the training, followed by the report of the guard, in Python."""
        self._check_compiled()
        self._refresh()
        if self.train_function is not None and not force:
            return
        functions: dict[str, Callable] = {}
        for part in self._steps:  # traced when first called, each with its own step
            super().make_train_function(force=True)
            functions[part] = self.train_function

        def guarded_step(iterator):
            if self._begin is not None and not self._begin.trained:  # after callbacks have read their files
                check_alike(self, self._begin.epoch)
            logs = functions[self._part](iterator)
            if self._begin is not None:
                self._begin.count(self.steps_per_execution)
            self._guard.report()
            return logs

        self.train_function = guarded_step

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Keras's own, with the first replica's part of a batch: Keras would add up parts of several sizes.

        The only private method of Keras that is overridden; a test says so if it goes.
        """
        if iterator is not None and self.distribute_strategy.num_replicas_in_sync > 1:
            for _, _, batches in iterator:
                data_batch = first_part(self.distribute_strategy, next(batches))
                break
            iterator = None
        getattr(super(), BUILD)(iterator=iterator, data_batch=data_batch)

    @property
    def _part(self) -> str:
        """The part of the training that the next step belongs to; a step outside `fit` is of the whole."""
        return "whole" if self._begin is None or self._begin.has_begun() else "adversarial"

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One update: maximise in x′, then descend in θ."""
        if not self.trainable_variables:  # said once, as in Keras, when the step is traced
            warnings.warn("The model has no trainable weights: `fit` changes nothing.", stacklevel=2)
        x, y, sample_weight = self._unpack(data)
        x, y = self._check_batch(x, y)
        with tf.control_dependencies([x]):  # no seed is spent where a data set turns out to have ended
            seed = tf.cast(self.seed_generator.next(), tf.int64)  # the same on each replica: see `Part.drawn`
            part = Part.of(x, sample_weight)
        faults = self._guard.inspect(x, y, self._bounded(x))
        y = labels.replace_invalid(y, self._guard.classes)
        y_pred, kept, numbers = self._steps[self._part](x, y, sample_weight, seed, faults, part)
        return as_logs(self._history.update(kept, numbers, part, x, y, y_pred, sample_weight))

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Keras's own evaluation, of the base model on clean data."""
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        x, y, sample_weight = self._unpack(data)
        with tf.control_dependencies([x]):  # nothing is counted where a data set turns out to have ended
            y_pred = only("y_pred", self(inputs, training=False))
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False)
            counts = tf.constant(True) if sample_weight is None else tf.reduce_any(sample_weight != 0)
            self._history.track("loss", loss, tf.shape(x)[0], counts)
            self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
            found = self.get_metrics_result()
        return as_logs({name: value for name, value in found.items() if name not in self._history.terms})

    def get_metrics_result(self) -> dict[str, Any]:
        """The metrics as Keras has them, but NaN for what has not been measured since they were reset."""
        found = self._history.or_nan(super().get_metrics_result())
        if not self._evaluates:
            return found
        return {name: value for name, value in found.items() if name not in self._history.terms}

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the base model on clean data, as `keras.Model.evaluate`."""
        self._evaluates = True
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._evaluates = False

    @property
    def _compiled(self) -> Problem:
        self._check_compiled()
        return self._steps["whole"].problem

    def _check_compiled(self) -> None:
        if not self._steps:
            raise ValueError("Call `compile()` first: attributions are of the compiled loss.")

    def _refresh(self) -> None:
        """Make everything anew that was made for the network as it was, if that has got another layer or activation."""
        if self._steps and self._steps["whole"].problem.head is not head_of(self.seen):
            self._make_steps()

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @property
    @abc.abstractmethod
    def seen(self) -> keras.Model:
        """The network that is perturbed and explained: the base model, or what follows a layer of it."""

    @abc.abstractmethod
    def _make_steps(self) -> None:
        """Set `_steps`, for the network as it is now."""

    def _check_batch(self, x: Any, y: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """What dtypes and shapes tell, before anything is computed."""
        takes_indices = self._compiled.loss.takes_indices
        x, y = self._guard.check_layout(only("x", x), only("y", y), takes_indices)
        return (tf.cast(x, self.variable_dtype) if x.dtype.is_floating else x), y

    def _bounded(self, x: tf.Tensor) -> tf.Tensor:
        """What the bounds are of: the inputs, or the output of the layer that is perturbed."""
        problem = self._compiled
        return x if problem.tail is None or self._guard.bounds is None else problem.columns.free(problem.entered(x))

    def _unpack(self, data: Any) -> tuple[Any, Any, Any]:
        """Inputs, labels and weights, each out of its dictionary or list."""
        parts = keras.utils.unpack_x_y_sample_weight(data)
        x, y, weight = (only(name, part) for name, part in zip(("x", "y", "sample_weight"), parts, strict=True))
        return x, y, weight


def _batch_size(x: Any, batch_size: int | None) -> int | None:
    """The batch size of a fit, as far as its arguments tell; `None` where only the batches do."""
    if all(hasattr(part, "shape") for part in keras.tree.flatten(x)):  # arrays, which Keras cuts into batches
        return batch_size or 32
    specs = keras.tree.flatten(getattr(x, "element_spec", None))
    return batch_size or (specs[0].shape[0] if specs and specs[0] is not None and specs[0].shape.rank else None)
