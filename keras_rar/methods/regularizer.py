"""What a method is: an objective, written once, ascended in x′ and descended in θ."""

import abc
import inspect
import numbers
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks, neighborhoods, quadrature
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules, wasserstein


class AbstractAttributionRegularizer(abc.ABC):
    """A training objective that may depend on attributions: subclass it and write `objective`.

    `min_θ E[ objective(x, x*) ],   x* = argmax_{x′ ∈ N(x, ε)} ascended(x, x′)`, where `ascended` is
    `objective` unless a method ascends something simpler.

    A constructor argument is an attribute of the same name and a key of the config: a subclass with
    arguments of its own sets them in `__init__(self, mine=1.0, **kwargs)` and passes `kwargs` on.

    Methods can be added and multiplied by a weight, `a + 0.5 * b`: see `keras_rar.SumOfRegularizers`.

    Settings may follow a schedule over the steps of the training, the `iterations` of the optimizer: `epsilon`, and
    the weight of a term if the objective reads it with `terms.value(self.mine)`.

    Args:
        epsilon: Float > 0, ε, the radius of the neighborhood, in the units of `bounds`; an array of floats >= 0 that
            broadcasts to an input, one radius per feature, 0 where it may not change; or a
            `keras.optimizers.schedules.LearningRateSchedule` of one radius. The attribute `epsilon` is then the largest
            radius of the schedule, which reports measure with; `perturb` uses that of the present step. Defaults to
            `0.1`.
        norm: `"linf"`, `"l2"` or `"l1"`, the norm of the neighborhood and of a step. Defaults to `"linf"`.
        bounds: Pair `(lower, upper)` of floats or of per-feature arrays: the range of valid inputs; or
            `None`. Defaults to `(0., 1.)`.
        steps: Integer > 0, iterations of the inner maximum. Defaults to `5`.
        step_size: Float > 0, their size, in the units of `bounds`. Defaults to `2.5 * epsilon / steps`, also where ε
            follows a schedule. With ε per feature it is that of the feature of the largest ε, the others' are in
            proportion.
        random_start: Whether the inner maximum starts at a random point of the neighborhood instead of
            x. Defaults to `True`.
        rule: Name of the quadrature rule: `"left"`, `"right"` (the paper's), `"midpoint"`, `"trapezoid"`
            or `"gauss_legendre"`. Defaults to `"midpoint"`.
        m: Integer > 0, nodes of IG in the objective. Defaults to `3`.
        attack_m: Integer > 0, nodes of IG in the inner maximum. Defaults to `1`.
        baseline: Float, or array that broadcasts to an input, `None` in it for the input itself: where the segments of
            `clean_map` and `perturbed_map` begin. Defaults to `0.`.
        chunk: Number of nodes of an IG evaluated at once: a positive integer, `None` for all, or `"auto"` for as
            many as fit in `memory_budget`. Fewer save memory, also of the derivatives, which then cost a third
            more; the result is the same. `"auto"` takes fewer examples at a time instead, which costs little, and
            fewer nodes only where one example does not fit. Defaults to `"auto"`.
        memory_budget: Float > 0, gigabytes that `chunk="auto"` lets the nodes of IGs take, beside what an update of
            plain training takes. A warning says so where one node of one example takes more. Defaults to `1.0`.
        price: A `keras_rar.WassersteinPrice` in place of the ball: x* may go anywhere within the bounds, and pays for
            it. `step_size` is then `None`, and ε and `norm` are those of random starts. Defaults to `None`, the ball.
        begin: When the attribution term begins within `fit`: an integer, after that many epochs, or a float between 0
            and 1, after that share of all epochs. Before, the model is trained adversarially, as by
            `keras_rar.MadryRegularizer`, and no IG is computed. Defaults to `0`, the first epoch.

    Raises:
        TypeError: If an argument is not of its type.
        ValueError: If an argument is out of range, or a name unknown (the message lists the known).

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class MapCosine(keras_rar.AbstractAttributionRegularizer):
    ...     def objective(self, terms):
    ...         maps = keras.layers.Flatten()(terms.clean_map), keras.layers.Flatten()(terms.perturbed_map)
    ...         return terms.perturbed_loss + terms.report("map_cosine", keras.losses.cosine_similarity(*maps))
    >>> MapCosine(epsilon=0.2).get_config()["epsilon"]
    0.2
    """

    exclusive: ClassVar[bool] = False  # whether it compares classes that exclude each other: `check_labels`

    def __init__(
        self,
        *,
        epsilon: Any = 0.1,
        norm: str = "linf",
        bounds: Any = (0.0, 1.0),
        steps: int = 5,
        step_size: float | None = None,
        random_start: bool = True,
        rule: str = "midpoint",
        m: int = 3,
        attack_m: int = 1,
        baseline: Any = 0.0,
        chunk: int | str | None = "auto",
        memory_budget: float = 1.0,
        price: wasserstein.WassersteinPrice | None = None,
        begin: int | float = 0,
    ):
        radius = schedules.checked("epsilon", epsilon, checks.radius)
        self.neighborhood = neighborhoods.get(
            checks.one_of("norm", norm, neighborhoods.TRAINED), schedules.largest(radius), bounds
        )
        self.epsilon: Any = self.neighborhood.epsilon
        self.bounds = self.neighborhood.bounds
        self.norm = norm
        self.steps = checks.positive_int("steps", steps)
        self.price = wasserstein.checked(price, step_size)
        default_step = 2.5 * self.neighborhood.reach / self.steps
        length = checks.positive_float("step_size", default_step if step_size is None else step_size)
        self.step_size = length if price is None else None
        self._scheduled: dict[str, Any] = {}  # in the config, in place of the numbers of the attributes
        if schedules.is_schedule(radius):
            self._scheduled = {"epsilon": radius, "step_size": step_size if step_size is None else self.step_size}
        self.random_start = checks.boolean("random_start", random_start)
        self.rule = rule
        self.m, self.attack_m = checks.positive_int("m", m), checks.positive_int("attack_m", attack_m)
        self.training_rule = quadrature.get(rule, self.m)
        self.attack_rule = quadrature.get(rule, self.attack_m)
        self.baseline = checks.baseline("baseline", baseline)
        self.chunk = checks.chunk(chunk)
        self.memory_budget = checks.positive_float("memory_budget", memory_budget)
        self.begin = _checked_begin(begin)

    @abc.abstractmethod
    def objective(self, terms: Terms) -> tf.Tensor:
        """The objective of each example, to be minimised in θ.

        Args:
            terms: What it may be made of; see `keras_rar.Terms`. Only what is read is computed.

        Returns:
            Tensor of shape `(batch,)`.
        """

    def ascended(self, terms: Terms) -> tf.Tensor:
        """What the inner maximum ascends in `terms.x_prime`, of shape `(batch,)`: the objective."""
        return self.objective(terms)

    def ball(self, terms: Terms) -> tuple[neighborhoods.Neighborhood, Any]:
        """N(x, ε), and the size of a step in it, at the training step of these terms."""
        if "epsilon" not in self._scheduled:
            return self.neighborhood, self.step_size
        epsilon = terms.value(self._scheduled["epsilon"])
        follows = self._scheduled["step_size"] is None
        return self.neighborhood.of_radius(epsilon), 2.5 * epsilon / self.steps if follows else self.step_size

    def __add__(self, other: Any) -> "AbstractAttributionRegularizer":
        return _sum([self, other]) if isinstance(other, AbstractAttributionRegularizer) else NotImplemented

    def __mul__(self, weight: Any) -> "AbstractAttributionRegularizer":
        return _sum([self], [weight])

    __rmul__ = __mul__

    def shared_config(self) -> dict[str, Any]:
        """The settings that all methods have, by name; schedules as they are."""
        names = list(inspect.signature(AbstractAttributionRegularizer.__init__).parameters)[1:]
        return {name: self._scheduled.get(name, getattr(self, name)) for name in names}

    def check_shape(self, shape: tuple[int | None, ...]) -> None:
        """Refuse ε, bounds and a baseline that do not broadcast to what is perturbed, of this shape."""
        self.neighborhood.check_shape(shape)
        checks.broadcasts("baseline", self.baseline, shape)

    def check_labels(self, independent: bool) -> None:
        """Refuse labels that the method has no meaning for; called by `compile`, which knows the loss.

        Args:
            independent: Whether each label has a sigmoid of its own, so that none excludes another.

        Raises:
            ValueError: If the method compares classes that exclude each other, and these do not.
        """
        if independent and self.exclusive:
            checks.fail(
                "method",
                "one for labels that do not exclude each other, such as 'madry' or 'ig_topk', for several sigmoids",
                type(self).__name__,
            )

    def check_precision(self, dtype: str) -> None:
        """Refuse settings that a model computing in this dtype would take for infinite, or for 0.

        Raises:
            ValueError: If there is one.
        """
        for name, value in self.get_config().items():
            if isinstance(value, (float, list)) and name != "memory_budget":
                check_numbers(name, value, dtype)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument by name, as plain Python values."""
        names = {
            name
            for cls in type(self).__mro__
            if issubclass(cls, AbstractAttributionRegularizer) and "__init__" in vars(cls)
            for name, parameter in inspect.signature(cls.__init__).parameters.items()
            if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
        }
        values = {name: self._scheduled.get(name, getattr(self, name)) for name in sorted(names)}
        values = {name: schedules.serialized(value) for name, value in values.items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AbstractAttributionRegularizer":
        return cls(**{name: schedules.deserialized(value) for name, value in config.items()})


def _sum(*arguments: Any) -> Any:
    """A `SumOfRegularizers`, whose module needs this one."""
    return keras.saving.get_registered_object("keras_rar>SumOfRegularizers")(*arguments)


def check_numbers(name: str, value: Any, dtype: str) -> None:
    """Refuse a number, or a list of them, that this dtype takes for infinite, or for 0."""
    info = tf.as_dtype(dtype)
    smallest = float(np.finfo(info.as_numpy_dtype).tiny)  # TensorFlow takes smaller numbers for 0
    sizes = [abs(number) for number in keras.tree.flatten(value) if isinstance(number, (int, float))]
    vanishes = not isinstance(value, list) or name in ("epsilon", "weights")
    vanishes = vanishes and any(0 < size < smallest for size in sizes)
    if vanishes or max(sizes, default=0.0) > float(info.max):
        checks.fail(name, f"neither 0 nor infinite in {dtype}, in which the model computes", value)


def _checked_begin(begin: Any) -> int | float:
    must_be = "a number of epochs, an integer >= 0, or a share of them, a float between 0 and 1"
    if isinstance(begin, bool) or not isinstance(begin, numbers.Real):
        checks.fail("begin", must_be, begin, TypeError)
    share = float(begin)
    if isinstance(begin, numbers.Integral):
        return int(begin) if share >= 0 else checks.fail("begin", must_be, begin)
    return share if 0 < share < 1 else checks.fail("begin", must_be, begin)
