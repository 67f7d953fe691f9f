"""Attacks whose gradient goes through a twin of the network: which twin, and how far it is the network."""

import abc
import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import keras
import numpy as np
import tensorflow as tf

from keras_rar.attacks import agreement, explained
from keras_rar.attacks.attack import Attack, Sizes
from keras_rar.core.channels import DataFormat
from keras_rar.core.correlations import cosine_similarity
from keras_rar.core.saliency_methods import WITH_BASELINE, Saliency
from keras_rar.networks import at_once
from keras_rar.networks.base_model import baseline_of
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.tail import at_layer

if TYPE_CHECKING:
    from typing_extensions import Self  # of `typing` from Python 3.11 on


P = ParamSpec("P")
R = TypeVar("R")


def of_trained(method: Callable[Concatenate[Any, Any, P], R]) -> Callable[Concatenate[Any, Any, P], R]:
    """A method `(attack, model, …)` of the attack with the baseline that the model is trained with: see `of`."""

    @functools.wraps(method)
    def call(attack: Any, model: Any, *args: P.args, **options: P.kwargs) -> R:
        return method(attack.of(model), model, *args, **options)

    return call


class FollowingAttack(Attack):
    """An attack on maps that follows the gradient of a smooth twin."""

    may_find_beta = True
    follows_gradients = True
    derivatives: at_once.Derivatives = "second"
    saliency: Saliency | Callable[..., Any]
    target: str
    data_format: DataFormat
    followed: Saliency | Callable[..., Any]
    of_training = False
    """Whether maps of a `RARModel` begin at the baseline of its training."""
    _approved: tuple[Any, ...] = ()
    _trained: tuple[Any, ...] = ()

    def of(self, model: keras.Model) -> "Self":
        """This attack with the baseline that a `RARModel` is trained with, where none was given; else itself.

        Args:
            model: As for a call.
        """
        baseline = baseline_of(model, self.layer, "auto") if self.of_training else 0.0
        if np.ndim(baseline) == 0 and baseline == 0:
            return self
        if not self._trained or self._trained[0] != baseline:  # kept, with its compiled functions
            attack = copy.copy(self)
            vars(attack).update(of_training=False, _compiled=(), _approved=(), _trained=())
            for name in ("saliency", "followed"):
                saliency = getattr(self, name)
                if isinstance(saliency, WITH_BASELINE):
                    setattr(attack, name, dataclasses.replace(saliency, baseline=baseline))
            self._trained = baseline, attack
        return self._trained[1]

    @of_trained
    def twin_agreement(
        self, model: keras.Model, x: Any, y: Any = None, *, gradient_model: keras.Model | None = None
    ) -> agreement.TwinAgreement:
        """How sharp the twin is that the attack follows, and how far it agrees with the model, on the first 8 rows.

        With `softplus_beta="auto"` it is the smoothest twin whose logits are those of the model: the first β of
        …, 1, 3, 10, 30, … at which they agree, from about `1 / s` to `300 / s`, with s the size of what its ReLUs get.
        The same rows and weights give the same β. A model without ReLUs needs no twin, and has no β.

        Costs `4 m` passes over the network for each of the 8 rows, for their maps, and a few more.

        Args:
            model: As for a call.
            x: As for a call.
            y: As for a call.
            gradient_model: As for a call; then the agreement is that of this twin.

        Returns:
            A `TwinAgreement`.

        Raises:
            TypeError: If `model` is not a Keras 3 model.
            ValueError: If the inputs or labels are wrong, or the activations of the model cannot be found.
        """
        model, x, gradient_model = self._at_layer(model, x, gradient_model)
        beta = None if gradient_model is not None else self._beta(model, x, gradient_model)
        classifier, run = self._function(model, gradient_model, beta, "maps")
        x, labels = self._checked(classifier, x, y)
        if beta is None and gradient_model is None:
            return agreement.ITSELF
        x = x[: agreement.EXAMPLES]
        labels = classifier.predict(x) if labels is None else labels[: agreement.EXAMPLES]
        labels = classifier.explained(x, labels)
        if beta is None:
            logits = Classifier(gradient_model).logits(tf.constant(x)).numpy()
        else:
            logits = agreement.twin_logits(classifier, beta, tf.constant(x))
        own = classifier.logits(tf.constant(x)).numpy()
        sizes = self._sizes_of(classifier.model, self.saliency, x.shape[1:])
        parts = [
            run("maps", *map(tf.constant, batch)) for _, batch in self._batches(sizes, x, labels)
        ]  # the last one is filled up
        maps, smooth_maps = (np.concatenate([part[i] for part in parts])[: len(x)] for i in (0, 1))
        return agreement.TwinAgreement(
            beta,
            predictions=agreement.same_predictions(classifier, logits, own),
            scores=agreement.correlation(logits, own),
            maps=float(np.mean(cosine_similarity(smooth_maps, maps))),
        )

    @of_trained
    def check(self, model: keras.Model, x: Any, y: Any = None, *, gradient_model: keras.Model | None = None) -> None:
        """Refuse what a call would refuse, without attacking anything. The arguments are those of a call."""
        model, x, gradient_model = self._at_layer(model, x, gradient_model)
        beta = 1.0 if self.softplus_beta == "auto" else self.softplus_beta  # any: whether a twin can be made
        self._ready(model, x, y, gradient_model, beta)

    @of_trained
    def settled(self, model: keras.Model, x: Any, *, gradient_model: keras.Model | None = None) -> "Self":
        """This attack with the sharpness that it finds for a model, or itself where it has one.

        For inputs that are attacked in parts: each call would find one on the first of its own rows.

        Args:
            model: As for a call.
            x: As for a call: all the inputs.
            gradient_model: As for a call.
        """
        if self.softplus_beta != "auto":
            return self
        model, x, gradient_model = self._at_layer(model, x, gradient_model)
        settled = copy.copy(self)
        settled.softplus_beta = self._beta(model, x, gradient_model)
        return settled

    def _at_layer(self, model: Any, x: Any, gradient_model: Any) -> tuple[Any, Any, Any]:
        """The network and its smooth twin from the layer on, and what they take there."""
        twin, _ = (None, None) if gradient_model is None else at_layer(gradient_model, self.layer, x)
        return (*at_layer(model, self.layer, x), twin)

    def _beta(self, model: keras.Model, x: Any, gradient_model: keras.Model | None) -> float | None:
        """The sharpness of the twin; a choice costs only what takes one."""
        if self.softplus_beta != "auto":
            return self.softplus_beta
        if gradient_model is not None or not self.follows_gradients:
            return None
        classifier = Classifier(model)
        return agreement.found(classifier, tf.constant(self._checked(classifier, x, None)[0][: agreement.EXAMPLES]))

    def _ready(
        self, model: keras.Model, x: Any, y: Any, gradient_model: keras.Model | None, beta: float | None
    ) -> tuple[Classifier, Callable, np.ndarray, np.ndarray | None]:
        """The network, the compiled attack, the inputs and the labels. Maps are checked once for a network."""
        classifier, run = self._function(model, gradient_model, beta)
        x, labels = self._checked(classifier, x, y)
        if self._approved != (run, x.shape[1:]):
            twin = explained.twin_of(gradient_model, classifier.input_shape)
            self._explainers(self.saliency, beta, classifier, twin).check(x, self.follows_gradients)
            self._approved = run, x.shape[1:]
        return classifier, run, x, labels

    def _sizes_of(self, model: keras.Model, saliency: Any, shape: tuple[int, ...]) -> Sizes:
        """How many examples to attack at once: with all points of the saliency, if a few megabytes are enough."""
        points = getattr(saliency, "points", 1)
        return self._sizes(model, shape, explained.batch_size(saliency, shape), points)

    def _explainers(
        self,
        saliency: Saliency | Callable[..., Any],
        beta: float | None,
        classifier: Classifier,
        gradient_classifier: Classifier | None,
    ) -> explained.Explainers:
        return explained.Explainers(saliency, self.target, beta, classifier, gradient_classifier, self.data_format)

    def _run(
        self,
        classifier: Classifier,
        gradient_classifier: Classifier | None,
        *settings: Any,
    ) -> Callable:
        beta, what = (*settings, "attack")[:2] if settings else (None, "attack")

        def explainers_of(saliency: Saliency | Callable[..., Any]) -> explained.Explainers:
            return self._explainers(saliency, beta, classifier, gradient_classifier)

        if what == "maps":
            explainers = explainers_of(self.saliency)
            return lambda phase, x, y: (explainers.own(x, y), explainers.smooth(x, y))
        return self._attack(classifier, explainers_of)

    @abc.abstractmethod
    def _attack(self, classifier: Classifier, explainers_of: Callable) -> Callable:
        """A function of tensors to compile.

        Args:
            classifier: The network.
            explainers_of: The `Explainers` of a saliency for this network and its twin.
        """

    @abc.abstractmethod
    def _checked(self, classifier: Classifier, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The inputs and labels, as arrays."""
