"""Attacks on attributions: one class for the loop, a few lines per attack."""

import abc
from collections.abc import Callable, Iterator
from typing import Any, get_args

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_rar.attacks import choices, explained, starts
from keras_rar.attacks.attack import Place
from keras_rar.attacks.following import FollowingAttack, of_trained
from keras_rar.attacks.results import AttackResult
from keras_rar.attacks.watch import Watch
from keras_rar.core import attack_loop, checks, keywords, map_objectives
from keras_rar.core.row_draws import Block
from keras_rar.explaining import attackable
from keras_rar.networks.classifier import TARGETS, Classifier


class AttributionAttack(FollowingAttack):
    """An attack on the saliency map: change it, keep the prediction (Ghorbani et al. 2019).

    `x* = argmin similarity(M(x), M(x′))` over the iterates of a projected ascent of the attack's own objective
    in N(x, ε), whose prediction is that at x. The gradient goes through a twin of the network with softplus for
    ReLU, whose second derivative is 0; the maps that are compared are the network's own. Where the gradient is
    zero everywhere, on a plateau, the step is a random one. Abstract: a subclass says in `objective` what is ascended.

    Costs, with an IG of m nodes, `6 m` passes over the network for each example, step and start.

    Args:
        epsilon: Float > 0, or an array of one float >= 0 per feature: radius of the ball, in the units of the input.
        norm: `"linf"`, `"l2"`, `"l1"` or `"l0"`. Defaults to `"linf"`.
        bounds: Pair `(lower, upper)` of floats or arrays, the valid range of inputs, or `None`. Defaults to `(0., 1.)`.
        steps: Positive integer, number of iterations. Defaults to `100`.
        step_size: Float > 0, length of a step (with an array of ε of the largest). Defaults to `epsilon / 10`.
        saliency: What is attacked: `"ig"`, `"gradient"`, `"gradient_x_input"`, `"smoothgrad"`, `"expected_gradients"`,
            `"occlusion"`, `"grad_cam"`, `"lrp"` or `"deeplift"`; a `Saliency` object, which has more settings; or a
            function `(model, x, y) -> attributions` of TensorFlow operations. Defaults to `"ig"`.
        target: The score explained: `"logit"`, `"loss"` or `"probability"` of the label. Defaults to `"logit"`.
        data_format: Where inputs have their channels: as for `saliency_map`. Defaults to `"auto"`, found.
        rule: Name of the quadrature rule of IG. Defaults to `"right"`.
        m: Positive integer, its number of nodes. Defaults to `100`.
        baseline: Float or array, where the segments of IG begin. Defaults to `"auto"`: that of the training of a
            `RARModel` at this layer, or `0.`.
        chunk: Number of nodes evaluated at once: an integer, `None` for all, or `"auto"`. Defaults to `"auto"`.
        keep: Similarity that picks the iterate: `"kendall_tau"`, `"spearman_rho"`, `"topk_intersection"` or
            `"mass_center"`. Defaults to `"kendall_tau"`.
        k_report: Positive integer, k of the reported top-k intersection, below the number of entries. Defaults to an
            eighth of the map.
        restarts: Integer >= 0, number of random starts after the one at the input, the paper's; the worst case over
            all starts is kept, for each example. Defaults to `0`.
        seed: Integer seed of the random starts and steps. Defaults to `0`.
        layer: Name of a layer whose output is explained and perturbed in place of the input, as `"embedding"` for
            words. `epsilon`, `bounds`, `baseline` and the result are of its output; padding stays. Defaults to `None`.
        softplus_beta: Float > 0, sharpness of the softplus; `None` to take gradients through the model as it is; or
            `"auto"` for the smoothest twin that agrees with the model, see `twin_agreement`. The paper's is `1.`.
            Defaults to `"auto"`.
        batch_size: Positive integer, examples attacked at once, on which random numbers depend; `None` for as many as
            fit in memory, with all nodes at once if they do, but at most 50: then they do not. Defaults to `None`.
        jit_compile: Whether to compile with XLA: `True`, `False`, or `"auto"` for "on a GPU". Defaults to `"auto"`.

    Raises:
        ValueError: If an argument is out of range.
    """

    @keywords.checked
    def __init__(
        self,
        epsilon: choices.Radius,
        *,
        norm: choices.Norm = "linf",
        bounds: choices.Bounds = (0.0, 1.0),
        steps: int = 100,
        step_size: float | None = None,
        saliency: choices.AnySaliency = "ig",
        target: choices.Target = "logit",
        data_format: choices.DataFormat = "auto",
        rule: choices.RuleName = "right",
        m: int = 100,
        baseline: npt.ArrayLike = "auto",
        chunk: choices.Chunk = "auto",
        keep: choices.SimilarityName = "kendall_tau",
        k_report: int | None = None,
        restarts: int = 0,
        seed: int = 0,
        layer: str | None = None,
        softplus_beta: float | choices.Auto | None = "auto",
        batch_size: int | None = None,
        jit_compile: choices.JitCompile = "auto",
    ):
        super().__init__(
            epsilon,
            norm=norm,
            bounds=bounds,
            steps=steps,
            step_size=step_size,
            softplus_beta=softplus_beta,
            restarts=restarts,
            seed=seed,
            layer=layer,
            batch_size=batch_size,
            jit_compile=jit_compile,
        )
        self.saliency = self.followed = attackable.get_differentiable(
            saliency, rule=rule, m=m, baseline=baseline, chunk=chunk
        )
        self.of_training = isinstance(saliency, str) and isinstance(baseline, str)
        self.target = checks.one_of("target", target, TARGETS)
        self.keep = checks.one_of("keep", keep, map_objectives.SIMILARITIES)
        self.data_format: choices.DataFormat = checks.one_of("data_format", data_format, get_args(choices.DataFormat))
        self.k_report = None if k_report is None else checks.positive_int("k_report", k_report)

    @abc.abstractmethod
    def objective(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """What is ascended, `(batch,)`, of two maps, each `(batch, height, width)`.

        Args:
            before: The map at the input.
            after: That of the smooth twin at an iterate, to be differentiated.
        """

    def reference(self, before: tf.Tensor, smooth_before: Callable[[], tf.Tensor]) -> tf.Tensor:
        """What `objective` gets as `before`: the map at the input, or that of the smooth twin, computed when called."""
        return before

    def __call__(
        self, model: keras.Model, x: Any, y: Any = None, *, gradient_model: keras.Model | None = None
    ) -> AttackResult:
        """Attack the saliency maps of a model.

        Args:
            model: Any Keras classifier with one input and one output, or a `RARModel`.
            x: Array of shape `(n, ...)`, in the units of `bounds`; or a dictionary or list that holds it.
            y: Labels whose score is explained. Defaults to the predicted ones.
            gradient_model: A smooth twin of your own to take gradients through, for a model whose activations
                cannot be found. Defaults to the model with softplus for ReLU.

        Returns:
            An `AttackResult`.

        Raises:
            TypeError: If `model` is not a Keras 3 model.
            ValueError: If the inputs or labels are wrong, or the activations of the model cannot be found.
        """
        parts = list(self.iterate(model, x, y, gradient_model=gradient_model))
        return type(parts[0]).concatenate(parts)

    @of_trained
    def iterate(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        *,
        gradient_model: keras.Model | None = None,
        first: int = 0,
        progress: choices.Progress | None = None,
    ) -> Iterator[AttackResult]:
        """The attack batch by batch, so that long ones can be watched, stored and gone on with.

        Args:
            model: As for a call.
            x: As for a call.
            y: As for a call.
            gradient_model: As for a call.
            first: The row to begin at, the end of an earlier batch.
            progress: Function called about once a second with the number of examples done, a float. Defaults to none.

        Yields:
            An `AttackResult` for each batch of at most `batch_size` rows.
        """
        model, x, gradient_model = self._at_layer(model, x, gradient_model)
        beta = self._beta(model, x, gradient_model)  # of the first rows, wherever the attack begins
        classifier, run, x, labels = self._ready(model, x, y, gradient_model, beta)
        watch = Watch(self.steps, self._runs(explained.map_shape_of(classifier, x, self.data_format)), progress)
        sizes = self._sizes_of(classifier.model, self.followed, x.shape[1:])
        for place, (inputs,) in self._batches(sizes, x, first=first):
            watch.begin(place.rows)
            predicted = classifier.predict(inputs)
            classes = predicted if labels is None else labels[place.indices]
            known = {"x": inputs, "y": classes, "correct": predicted == classes}
            known = {name: column[: place.examples] for name, column in known.items()}
            labels_explained = tf.constant(classifier.explained(inputs, classes))
            found = self._attacked(classifier, run, tf.constant(inputs), labels_explained, place, known, watch)
            yield found.with_inputs(classifier.columns.free)

    def _attacked(
        self, classifier: Classifier, run: Callable, x: tf.Tensor, y: tf.Tensor, place: Place, known: dict, watch: Watch
    ) -> Any:
        """The result of a batch, for as many rows as the columns that are `known` have; the others only fill it up."""
        same, begun = 0.0 if self.keep == "mass_center" else 1.0, self._starts(classifier, x, place)
        found = starts.worst_case(run, x, y, begun, unchanged=same, watch=watch)
        new = {name: value.numpy()[: len(known["x"])] for name, value in found.items()}
        return AttackResult(scores=explained.scores_kept(classifier, self, new), **known, **new)

    def _runs(self, shape: tuple[int, ...]) -> float:
        """How many runs of `steps` iterations a batch takes, if maps are of this shape."""
        return self.restarts + 1

    def check_map(self, shape: tuple[int, ...]) -> None:
        """Refuse settings that do not fit a map of this shape."""
        explained.check_k("k_report", self.k_report, shape)
        if self.keep == "mass_center" and len(shape) != 2:
            checks.fail("keep", "another similarity than the mass centre for a map that is no image", self.keep)

    def direction(self, x: tf.Tensor, reference: tf.Tensor, smooth_map: Callable, block: Block) -> Callable:
        """The direction of a step, as a function `(k, x′)`."""
        gradient = attack_loop.map_gradient(self.objective, reference, smooth_map)
        felt = lambda k, x_prime: self.neighborhood.felt(gradient(k, x_prime))  # noqa: E731
        return attack_loop.unless_zero(felt, starts.random_direction(block, x))

    def _checked(self, classifier: Classifier, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The inputs and labels, as arrays."""
        x, shape = explained.checked_inputs(classifier, x, self)
        self.check_map(shape)
        return x, None if y is None else classifier.check_labels(y, len(x))

    def _attack(self, classifier: Classifier, explainers_of: Callable) -> Callable:
        explainers = explainers_of(self.saliency)
        explain = tf.function(explainers.own, autograph=False)  # called several times, traced once
        similarity = explained.similarities(classifier, self.saliency)[self.keep]

        def look(x, y):
            before = explain(x, y)
            return before, self.reference(before, lambda: explainers.smooth(x, y)), classifier.predicted(x)

        def advance(x, y, before, reference, predicted, x_prime, kept, first, last, block):
            k = self._k_report(before.shape[1:])
            return attack_loop.advance(
                x,
                x_prime,
                kept,
                direction=self.direction(x, reference, lambda z: explainers.smooth(z, y), block),
                similarity=lambda z: tf.cast(similarity(before, explain(z, y), k), tf.float32),
                allowed=lambda z: classifier.predicted(z) == predicted,
                first=first,
                last=last,
                neighborhood=classifier.ball(self.neighborhood),
                **self._loop,
            )

        return lambda phase, *state: (look if phase == "look" else advance)(*state)

    def _k_report(self, shape: Any) -> int:
        return explained.eighth(shape) if self.k_report is None else self.k_report
