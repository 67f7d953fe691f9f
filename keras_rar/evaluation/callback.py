"""A callback that measures the robustness of explanations while a model trains."""

import warnings
from typing import Any, Literal, cast

import keras
import numpy as np
import numpy.typing as npt

from keras_rar.attacks import AttributionAttack, PGDAttack, TopKAttack, explained
from keras_rar.attacks.choices import Auto, Bounds, DataFormat, JitCompile, Norm, Radius
from keras_rar.core import checks, keywords
from keras_rar.evaluation import ball, short
from keras_rar.evaluation.held_out import read
from keras_rar.evaluation.settings import Settings, is_auto
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.tail import at_layer


class AttributionRobustness(keras.callbacks.Callback):
    """Attack a few held-out examples during `fit`, and write what was found into `logs`.

    Adds to the logs of each epoch, with the prefix `val_`:

    - `kendall_tau`, `spearman_rho`, `topk_intersection`: similarity of the saliency maps before and after an
      attack, the mean over the examples classified correctly, as in the paper; 1 is robust. Texts of too few words
      to be compared are left out, with a warning.
    - `adversarial_accuracy`: share of all the examples that stay classified correctly under PGD.
    - `attacked`: number of examples classified correctly, those behind the first three. Where it is 0, or a score is
      undefined, these are `-inf`. They are not NaN, which Keras would take for the best value seen and never leave.

    History, the progress bar, and the callbacks **after** this one in the list see them: put it first. Say
    `mode="max"` in those that monitor one: Keras does not know the direction, and some versions guess `"min"`.

    The first epoch is measured, then every n-th; in between the last numbers stand, so that no callback misses
    them; a `patience` counts those epochs too. Training is left as it is: the same seed gives the same weights with
    this callback and without.

    The ball of a `RARModel` is that of its training: `epsilon`, `norm`, `bounds`, `baseline`, and `k` if its method
    has one, as for `keras_rar.evaluate_robustness`. For any other model `epsilon` must be given.

    One measurement costs some `6 m steps` passes over the network for each example, some hundreds with the defaults.
    So few examples and steps show a trend; `keras_rar.evaluate_robustness` gives the verdict.

    Args:
        x: Array of examples, `(n, ...)`, in the units of `bounds`, or a dictionary or list that holds it; or a
            `tf.data.Dataset` of batches `(x, y)`, which is read once, here.
        y: Labels, class indices or one-hot; left out for a data set.
        every: Positive integer n: measure each n-th time. Defaults to `1`.
        unit: What is counted: `"epoch"` or `"batch"`; batches are counted over all epochs, and their logs get the
            numbers too. Defaults to `"epoch"`.
        epsilon: Float > 0, or one per feature: radius of the attacks. Defaults to that of the training; to be given for
            a model that keras_rar does not train.
        norm: `"linf"`, `"l2"`, `"l1"` or `"l0"`. Defaults to that of the training, or `"linf"`.
        bounds: Pair `(lower, upper)`, the valid range of inputs, or `None` for no bounds. Defaults to `"auto"`: that
            of the training, or `(0., 1.)`.
        baseline: Float or array, where the segments of IG begin. Defaults to that of the training, or `0.`.
        k: Positive integer, number of highest entries attacked. Defaults to that of the training, or an eighth of the
            map.
        k_report: Positive integer, number of highest entries compared. Defaults to `k`.
        steps: Positive integer, iterations of each attack, of size `2.5 * epsilon / steps` and at least
            `epsilon / 10`. Defaults to `10`.
        m: Positive integer, number of nodes of the attacked integrated gradients. Defaults to `10`.
        data_format: Where inputs have their channels, as for `saliency_map`. Defaults to `"auto"`, found.
        layer: Name of a layer whose output is attacked and explained, as for `evaluate_robustness`.
        max_images: Positive integer, how many examples to take, or `None` for all. They are the first: shuffle
            examples sorted by class. Defaults to `32`.
        prefix: What the names begin with. Defaults to `"val_"`.
        jit_compile: Whether to compile the attacks with XLA: `True`, `False`, or `"auto"` for "on a GPU". Defaults
            to `"auto"`.
        attack: An `AttributionAttack` of your own, instead of what `epsilon` to `m` and `jit_compile` describe.
        pgd: A `PGDAttack` of your own. Defaults to one of the same radius, norm, bounds and steps.

    Raises:
        TypeError: If an argument is not of its type, or does not exist.
        ValueError: If an argument is out of range; when training begins, if `epsilon` is missing or the examples or
            labels do not fit the model.

    Example:

    >>> model = keras_rar.wrap(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), "madry")
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.random.uniform(size=(8, 4)), np.arange(8) % 3
    >>> stop = keras.callbacks.EarlyStopping(monitor="val_kendall_tau", mode="max", patience=3)
    >>> history = model.fit(x, y, callbacks=[AttributionRobustness(x, y), stop], verbose=0).history
    >>> print(*sorted(history))
    loss perturbed_loss val_adversarial_accuracy val_attacked val_kendall_tau val_spearman_rho val_topk_intersection
    """

    @keywords.checked
    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        every: int = 1,
        unit: Literal["epoch", "batch"] = "epoch",
        epsilon: Radius | None = None,
        norm: Norm | None = None,
        bounds: Bounds | Auto = "auto",
        baseline: npt.ArrayLike | None = None,
        k: int | None = None,
        k_report: int | None = None,
        steps: int | None = None,
        m: int | None = None,
        data_format: DataFormat | None = None,
        layer: str | Auto | None = "auto",
        max_images: int | None = 32,
        prefix: str = "val_",
        jit_compile: JitCompile = "auto",
        attack: AttributionAttack | None = None,
        pgd: PGDAttack | None = None,
    ):
        super().__init__()
        self.max_images = None if max_images is None else checks.positive_int("max_images", max_images)
        self.x, self.y = read(x, y, self.max_images)
        self.every = checks.positive_int("every", every)
        self.unit = checks.one_of("unit", unit, ["epoch", "batch"])
        self.epsilon, self.norm, self.bounds, self.baseline = epsilon, norm, bounds, baseline
        self.k, self.k_report, self.steps, self.m = k, k_report, steps, m
        self.prefix = prefix if isinstance(prefix, str) else checks.fail("prefix", "a string", prefix, TypeError)
        self.jit_compile, self.data_format, self.layer = jit_compile, data_format, layer
        self.attack, self.pgd = attack, pgd
        for name, value, kind in (("attack", attack, AttributionAttack), ("pgd", pgd, PGDAttack)):
            if value is not None and not isinstance(value, kind):
                checks.fail(name, f"a keras_rar.attacks.{kind.__name__}", value, TypeError)
        if attack is None:
            self._describe({"epsilon": 1.0, **self._ball()})  # refuses wrong settings before training begins
        else:
            self._refuse_settings()
        self.async_safe = unit == "epoch"  # or Keras would wait for the logs of every batch
        self._attacked_model: keras.Model | None = None
        self._attack: Any = None
        self._pgd: Any = None
        self._numbers: dict[str, float] = {}
        self._counted: dict[str, np.ndarray] = {}
        self._waited, self._last_batch = 0, -1

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._numbers, self._waited = {}, 0
        if self._attacked_model is self.model:  # the attacks are kept, with their compiled functions
            return
        self._attack = self.attack or self._describe(ball.completed(self.model, self._ball()))
        self._pgd = self.pgd or _same_ball(self._attack)
        seen, x = at_layer(self.model, self._pgd.layer, self.x)
        x = Classifier(seen).check_inputs(x, self._pgd.bounds)
        self._attack.check(self.model, self.x, self.y)
        self._counted = short.counted(Classifier(seen), x, self._attack)
        self._attacked_model = self.model

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._last_batch = -1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.unit == "batch":
            self._wait(batch - self._last_batch, logs)  # more than one with `steps_per_execution`
            self._last_batch = batch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._wait(1 if self.unit == "epoch" else 0, logs)

    def _wait(self, count: int, logs: dict[str, Any] | None) -> None:
        """Count on, measure if it is time, and write the latest numbers."""
        self._waited += count
        if not self._numbers or self._waited >= self.every:
            self._numbers, self._waited = self._measure(), 0
        if logs is not None:
            logs.update(self._numbers)

    def _measure(self) -> dict[str, float]:
        # All examples are attacked, for the number of those classified correctly changes: one shape, one trace.
        found = self._attack(self.model, self.x, self.y)
        robust = self._pgd(self.model, self.x, self.y).robust
        attacked = int(found.correct.sum())
        if not attacked:
            message = "No example is classified correctly: no attribution robustness can be measured; logged as -inf."
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        elif not found.iteration[found.correct].any():
            message = "The attack changed no map: scores of 1 say that it failed, not that the maps are robust."
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        means = {name: _mean(found.scores[name][found.correct & self._counted[name]]) for name in explained.SCORES}
        numbers = {**means, "adversarial_accuracy": float(robust.mean()), "attacked": attacked}
        return {self.prefix + name: value for name, value in numbers.items()}

    def _ball(self) -> Settings:
        """What the arguments say of the ball."""
        names = ("epsilon", "norm", "baseline", "k", "data_format")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        optional = {name: getattr(self, name) for name in ("bounds", "layer") if not is_auto(getattr(self, name))}
        return cast(Settings, {**given, **optional})

    def _refuse_settings(self) -> None:
        names = ("epsilon", "norm", "bounds", "baseline", "k", "k_report", "steps", "m", "data_format", "layer")
        for name in (*names, "jit_compile"):
            value = getattr(self, name)
            if value is not None and not is_auto(value):
                checks.fail(name, "left out where `attack` is given, which has its own", value)

    def _describe(self, found: Settings) -> AttributionAttack:
        """The attack in this ball that the other arguments describe."""
        epsilon = checks.radius("epsilon", found["epsilon"])
        steps = checks.positive_int("steps", 10 if self.steps is None else self.steps)
        k, data_format = found.get("k"), found.get("data_format", "auto")
        if k is None and self.model is None:
            k = 1  # until the model is known, and with it where the channels are
        elif k is None:
            seen, x = at_layer(self.model, found.get("layer"), self.x)
            classifier, x = Classifier(seen), np.asarray(x)
            shape = explained.map_shape_of(classifier, x, data_format)
            free = classifier.columns.free(x).shape[1:]
            counted = explained.counted_entries(found.get("baseline", 0.0), free, shape)
            k = explained.eighth(shape if counted is None else counted.shape)
        return TopKAttack(
            k,
            epsilon,
            norm=found.get("norm", "linf"),
            bounds=found.get("bounds", (0.0, 1.0)),
            baseline=found.get("baseline", 0.0),
            k_report=self.k_report,
            steps=steps,
            step_size=_step_size(epsilon, steps),
            m=10 if self.m is None else self.m,
            data_format=data_format,
            layer=found.get("layer"),
            jit_compile=self.jit_compile,
        )


def _same_ball(attack: AttributionAttack) -> PGDAttack:
    return PGDAttack(
        attack.epsilon,
        norm=attack.norm,
        bounds=attack.bounds,
        steps=attack.steps,
        step_size=_step_size(attack.epsilon, attack.steps),
        layer=attack.layer,
        jit_compile=attack.jit_compile,
    )


def _step_size(epsilon: Radius, steps: int) -> float:
    """The paper's for many steps; for few a size that reaches the border (Madry et al. 2018)."""
    return float(np.max(epsilon)) * max(0.1, 2.5 / steps)


def _mean(scores: np.ndarray) -> float:
    """The mean, or -inf where there is none, so that it is never the best value."""
    mean = float(scores.mean()) if scores.size else np.nan
    return -np.inf if np.isnan(mean) else mean
