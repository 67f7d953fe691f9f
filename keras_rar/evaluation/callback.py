"""A callback that measures the robustness of explanations while a model trains."""

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.attacks import AttributionAttack, PGDAttack, TopKAttack
from keras_rar.core import checks
from keras_rar.core.saliency_methods import normalize_map
from keras_rar.networks.classifier import Classifier

SCORES = ("kendall_tau", "spearman_rho", "topk_intersection")


class AttributionRobustness(keras.callbacks.Callback):
    """Attack a few held-out images during `fit`, and write what was found into `logs`.

    Adds to the logs of each epoch, with the prefix `val_`:

    - `kendall_tau`, `spearman_rho`, `topk_intersection`: similarity of the saliency maps before and after an
      attack, the mean over the images classified correctly, as in the paper; 1 is robust.
    - `adversarial_accuracy`: share of all the images that stay classified correctly under PGD.
    - `attacked`: number of images classified correctly, those behind the first three. Where it is 0 these are
      `-inf`: not NaN, which Keras would take for the best value seen and never leave.

    History, the progress bar, and the callbacks **after** this one in the list see them: put it first. Say
    `mode="max"` in those that monitor one: Keras does not know the direction, and some versions guess `"min"`.

    The first epoch is measured, then every n-th; in between the last numbers stand, so that no callback misses
    them; a `patience` counts those epochs too. Training is left as it is: the same seed gives the same weights with
    this callback and without.

    One measurement costs some `6 m steps` passes over the network for each image, some hundreds with the defaults. So
    few images and steps show a trend; `keras_rar.evaluate_robustness` gives the verdict.

    Args:
        x: Array of images, `(n, ...)`, in the units of `bounds`; or a `tf.data.Dataset` of batches `(x, y)`,
            which is read once, here.
        y: Labels, class indices or one-hot; left out for a data set.
        every: Positive integer n: measure each n-th time. Defaults to `1`.
        unit: What is counted: `"epoch"` or `"batch"`; batches are counted over all epochs, and their logs get the
            numbers too. Defaults to `"epoch"`.
        epsilon: Float > 0, radius of the attacks. Defaults to that of the training; to be given for a model that
            keras_rar does not train.
        norm: `"linf"` or `"l2"`. Defaults to that of the training, or `"linf"`.
        bounds: Pair `(lower, upper)`, the valid range of inputs, or `None` for no bounds. Defaults to `"auto"`: that
            of the training, or `(0., 1.)`.
        k: Positive integer, number of highest entries attacked and compared. Defaults to an eighth of the map.
        steps: Positive integer, iterations of each attack, of size `2.5 * epsilon / steps` and at least
            `epsilon / 10`. Defaults to `10`.
        m: Positive integer, number of nodes of the attacked integrated gradients. Defaults to `10`.
        max_images: Positive integer, how many images to take, or `None` for all. They are the first: shuffle images
            sorted by class. Defaults to `32`.
        prefix: What the names begin with. Defaults to `"val_"`.
        jit_compile: Whether to compile the attacks with XLA: `True`, `False`, or `"auto"` for "on a GPU". Defaults
            to `"auto"`.
        attack: An `AttributionAttack` of your own, instead of what `epsilon` to `m` and `jit_compile` describe.
        pgd: A `PGDAttack` of your own. Defaults to one of the same radius, norm, bounds and steps.

    Raises:
        TypeError: If an argument is not of its type.
        ValueError: If an argument is out of range; when training begins, if `epsilon` is missing or the images or
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

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        every: int = 1,
        unit: str = "epoch",
        epsilon: float | None = None,
        norm: str | None = None,
        bounds: Any = "auto",
        k: int | None = None,
        steps: int | None = None,
        m: int | None = None,
        max_images: int | None = 32,
        prefix: str = "val_",
        jit_compile: bool | str = "auto",
        attack: AttributionAttack | None = None,
        pgd: PGDAttack | None = None,
    ):
        super().__init__()
        self.max_images = None if max_images is None else checks.positive_int("max_images", max_images)
        self.x, self.y = _read(x, y, self.max_images)
        self.every = checks.positive_int("every", every)
        self.unit = checks.one_of("unit", unit, ["epoch", "batch"])
        self.epsilon, self.norm, self.bounds = epsilon, norm, bounds
        self.k, self.steps, self.m = k, steps, m
        self.prefix = prefix if isinstance(prefix, str) else checks.fail("prefix", "a string", prefix, TypeError)
        self.jit_compile = jit_compile
        self.attack, self.pgd = attack, pgd
        for name, value, kind in (("attack", attack, AttributionAttack), ("pgd", pgd, PGDAttack)):
            if value is not None and not isinstance(value, kind):
                checks.fail(name, f"a keras_rar.attacks.{kind.__name__}", value, TypeError)
        if attack is None:
            self._describe(1.0, "linf", (0.0, 1.0))  # refuses wrong settings here, not only when training begins
        else:
            self._refuse_settings()
        self.async_safe = unit == "epoch"  # or Keras would wait for the logs of every batch
        self._attacked_model: keras.Model | None = None
        self._attack: Any = None
        self._pgd: Any = None
        self._numbers: dict[str, float] = {}
        self._waited, self._last_batch = 0, -1

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._numbers, self._waited = {}, 0
        if self._attacked_model is not self.model:  # else the attacks are kept, with their compiled functions
            self._attack = self.attack or self._describe(*self._ball_of_training())
            self._pgd = self.pgd or _same_ball(self._attack)
            self._attacked_model = self.model
        classifier = Classifier(self.model)
        for attack in (self._attack, self._pgd):
            classifier.check_inputs(self.x, attack.bounds)
        classifier.check_labels(self.y, len(self.x))
        self._attack.check_map(_map_shape(self.x))

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
        # All images are attacked, for the number of those classified correctly changes: one shape, one trace.
        found = self._attack(self.model, self.x, self.y)
        robust = self._pgd(self.model, self.x, self.y).robust
        attacked = int(found.correct.sum())
        if not attacked:
            message = "No image is classified correctly: there is no attribution robustness to measure, logged as -inf."
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        means = {name: float(found.scores[name][found.correct].mean()) if attacked else -np.inf for name in SCORES}
        numbers = {**means, "adversarial_accuracy": float(robust.mean()), "attacked": attacked}
        return {self.prefix + name: value for name, value in numbers.items()}

    def _ball_of_training(self) -> tuple[float, str, Any]:
        """Radius, norm and bounds that a wrapped model is trained with."""
        regularizer: Any = getattr(self.model, "regularizer", None)  # of a RARModel, whose module is not imported here
        if hasattr(regularizer, "epsilon"):
            return regularizer.epsilon, regularizer.norm, regularizer.bounds
        if self.epsilon is None:
            checks.fail("epsilon", "given for a model that keras_rar does not train, such as epsilon=0.1", None)
        return self.epsilon, "linf", (0.0, 1.0)

    def _refuse_settings(self) -> None:
        for name in ("epsilon", "norm", "bounds", "k", "steps", "m", "jit_compile"):
            value = getattr(self, name)
            if value is not None and not _is_auto(value):
                checks.fail(name, "left out where `attack` is given, which has its own", value)

    def _describe(self, epsilon: float, norm: str, bounds: Any) -> AttributionAttack:
        """The attack that the arguments describe, with a ball for what they leave open."""
        epsilon = checks.positive_float("epsilon", epsilon if self.epsilon is None else self.epsilon)
        steps = checks.positive_int("steps", 10 if self.steps is None else self.steps)
        return TopKAttack(
            max(1, int(np.prod(_map_shape(self.x))) // 8) if self.k is None else self.k,
            epsilon,
            norm=norm if self.norm is None else self.norm,
            bounds=bounds if _is_auto(self.bounds) else self.bounds,
            steps=steps,
            step_size=_step_size(epsilon, steps),
            m=10 if self.m is None else self.m,
            jit_compile=self.jit_compile,
        )


def _same_ball(attack: AttributionAttack) -> PGDAttack:
    return PGDAttack(
        attack.epsilon,
        norm=attack.norm,
        bounds=attack.bounds,
        steps=attack.steps,
        step_size=_step_size(attack.epsilon, attack.steps),
        jit_compile=attack.jit_compile,
    )


def _step_size(epsilon: float, steps: int) -> float:
    """The paper's for many steps; for few a size that reaches the border (Madry et al. 2018)."""
    return epsilon * max(0.1, 2.5 / steps)


def _map_shape(x: np.ndarray) -> tuple[int, ...]:
    return tuple(normalize_map(tf.zeros([1, *x.shape[1:]])).shape[1:])


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _read(x: Any, y: Any, max_images: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The first images and labels, as arrays."""
    if not isinstance(x, tf.data.Dataset):
        if y is None:
            raise ValueError("`y` must be given, unless `x` is a tf.data.Dataset of (x, y). Received: y=None")
        if len(x) != len(y):
            raise ValueError(f"`y` must hold one label an example, {len(x)}. Received: {len(y)} labels")
        return np.asarray(x[:max_images]), np.asarray(y[:max_images])
    if y is not None:
        checks.fail("y", "left out where `x` is a tf.data.Dataset", y)
    if max_images is None and x.cardinality() == tf.data.INFINITE_CARDINALITY:
        checks.fail("max_images", "an integer for a data set that repeats for ever", max_images)
    _, labels, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
    if labels is None or labels.shape.rank == 0:
        raise ValueError(f"`x` must be a data set of batches (x, y). Received: elements of {x.element_spec}")
    rows = list(x.unbatch().take(max_images or -1).as_numpy_iterator())
    if not rows:
        raise ValueError("`x` must hold at least one example. Received: an empty data set")
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])
