"""What an evaluation does, as data: every setting of `evaluate_robustness`."""

import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from keras_rar import attacks
from keras_rar.attacks import choices
from keras_rar.core import checks, keywords
from keras_rar.evaluation.kinds_of_maps import other_saliencies
from keras_rar.evaluation.plain_values import brief, plain
from keras_rar.evaluation.settings import AttackName, DatasetName, PredictionAttackName, ProtocolName, Settings

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of `typing` from Python 3.11 on


ATTACKS: dict[str, Callable[..., attacks.AttributionAttack]] = {
    "topk": attacks.TopKAttack,
    "mass_center": attacks.MassCenterAttack,
    "random": attacks.RandomAttack,
    "ensemble": attacks.EnsembleAttack,
}
PREDICTION_ATTACKS: dict[str, Callable[..., Any]] = {
    "pgd": attacks.PGDAttack,
    "ensemble": attacks.PredictionEnsembleAttack,
}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Every setting of an evaluation; the settings are those of `TopKAttack`, `EnsembleAttack` and `PGDAttack`.

    Args:
        name: Name of the protocol.
        epsilon: Float > 0, radius of the ball of both attacks, in the units of the input; or one per feature.
        norm: `"linf"`, `"l2"`, `"l1"` or `"l0"`.
        bounds: Pair `(lower, upper)`, the valid range of inputs, or `None`.
        prediction_attack: Attack on predictions: `"pgd"`, or `"ensemble"`, which has no settings but `pgd_restarts`.
        pgd_steps: Iterations of the attack on predictions.
        pgd_step_size: Length of its step; `None` for a tenth of `epsilon`.
        pgd_objectives: Its objectives, `"crossentropy"` and `"margin"`; the worst of them counts.
        pgd_restarts: Random starts of it, after the one at the input.
        attack: Attribution attack: `"topk"`, `"mass_center"`, `"random"` or `"ensemble"`, the worst of several.
        k: Number of entries that `"topk"` and `"ensemble"` drain; `None` for an eighth of the map.
        k_report: k of the reported top-k intersection, below the entries of a map; `None` for `k`.
        steps: Iterations of the attribution attack.
        step_size: Length of its step; `None` for its default.
        restarts: Random starts of it, after the one at the input.
        keep: The similarity that picks the iterate.
        saliency: The attribution method: a name, a `Saliency` object or a function.
        target: The score explained.
        data_format: Where inputs have their channels: `"auto"`, `"channels_last"`, `"channels_first"` or `"none"`.
        layer: Name of a layer whose output is attacked and explained; `None` for the input.
        rule: Quadrature rule of IG.
        m: Its number of nodes.
        baseline: Where its segments begin.
        softplus_beta: Sharpness of the softplus twin, or `"auto"` for one that is found for the model.
        attacked: Number of examples whose maps are attacked, the first correctly classified; `None` for all.
        seed: Seed of random starts and steps, and of the bootstrap.
        noise: Number of attacked examples that noise of the same budget is measured on, the control; 0 for none.
        other_maps: Attribution methods attacked besides, on as many examples; `None` for the gradient, or IG where
            `saliency` is something else; `()` for none.
        faithful: Number of attacked examples whose maps are tested for faithfulness; 0 for none.
        certified: Number of attacked examples whose maps are certified; 0 for none, as with an array of `epsilon`.

    Raises:
        TypeError: If a setting is not of its type, or does not exist.
        ValueError: If a setting is out of range.

    Example:

    >>> Protocol("mine", epsilon=0.1, steps=20).m
    100
    """

    name: str
    epsilon: choices.Radius
    norm: choices.Norm = "linf"
    bounds: choices.Bounds = (0.0, 1.0)
    prediction_attack: PredictionAttackName = "pgd"
    pgd_steps: int = 40
    pgd_step_size: float | None = None
    pgd_objectives: choices.ObjectiveName | Sequence[choices.ObjectiveName] = ("crossentropy", "margin")
    pgd_restarts: int = 1
    attack: AttackName = "topk"
    k: int | None = None
    k_report: int | None = None
    steps: int = 100
    step_size: float | None = None
    restarts: int = 0
    keep: choices.SimilarityName = "kendall_tau"
    saliency: choices.AnySaliency = "ig"
    target: choices.Target = "logit"
    data_format: choices.DataFormat = "auto"
    layer: str | None = None
    rule: choices.RuleName = "right"
    m: int = 100
    baseline: npt.ArrayLike = 0.0
    softplus_beta: float | choices.Auto | None = "auto"
    attacked: int | None = None
    seed: int = 0
    noise: int = 16
    other_maps: Sequence[choices.AnySaliency] | None = None
    faithful: int = 16
    certified: int = 0

    def __post_init__(self) -> None:
        checks.one_of("attack", self.attack, ATTACKS)
        checks.one_of("prediction_attack", self.prediction_attack, PREDICTION_ATTACKS)
        checks.layer(self.layer)
        if self.attacked is not None:
            checks.positive_int("attacked", self.attacked)
        checks.nonnegative_int("seed", self.seed)  # attacks take any, the bootstrap does not
        for name in ("noise", "faithful", "certified"):
            checks.nonnegative_int(name, getattr(self, name))
        if self.certified and not isinstance(self.epsilon, numbers.Real):
            checks.fail("certified", "0 with an array of `epsilon`: noise certifies one radius for all", self.certified)
        other_saliencies(self.other_maps, self.saliency)
        self.pgd_attack(), self.attribution_attack(entries=1)  # refuse wrong settings now, not after hours

    def changed(self, **changes: "Unpack[Settings]") -> "Protocol":
        """A copy with some settings changed, and a name that says so.

        Args:
            **changes: Settings by name. The name itself cannot be changed, since it says what was.

        Raises:
            TypeError: If there is no such setting.
        """
        known = [field.name for field in dataclasses.fields(self) if field.name != "name"]
        keywords.refuse(changes, known, "Protocol.changed")
        new = {name: value for name, value in changes.items() if plain(value) != plain(getattr(self, name))}
        if not new:
            return self
        name = f"{self.name}, changed: " + ", ".join(f"{key}={brief(value)}" for key, value in new.items())
        return dataclasses.replace(self, **{"name": name, **new})  # type: ignore[arg-type]

    def pgd_attack(self, **options: Any) -> Any:
        """The attack on predictions; `options` are `batch_size` and `jit_compile`."""
        if self.prediction_attack == "pgd":
            options |= {
                "steps": self.pgd_steps, "step_size": self.pgd_step_size, "objectives": self.pgd_objectives,
            }  # fmt: skip
        return PREDICTION_ATTACKS[self.prediction_attack](
            self.epsilon,
            norm=self.norm,
            bounds=self.bounds,
            restarts=self.pgd_restarts,
            seed=self.seed,
            **options,
        )

    def attribution_attack(self, entries: int, **options: Any) -> attacks.AttributionAttack:
        """The attack on maps of that many entries; `options` are `batch_size`, `chunk` and `jit_compile`."""
        k = max(1, entries // 8) if self.k is None else self.k
        if self.attack in ("topk", "ensemble"):
            options["k"] = k
        return ATTACKS[self.attack](
            epsilon=self.epsilon,
            norm=self.norm,
            bounds=self.bounds,
            steps=self.steps,
            step_size=self.step_size,
            saliency=self.saliency,
            target=self.target,
            data_format=self.data_format,
            rule=self.rule,
            m=self.m,
            baseline=self.baseline,
            keep=self.keep,
            k_report=k if self.k_report is None else self.k_report,
            restarts=self.restarts,
            seed=self.seed,
            softplus_beta=self.softplus_beta,
            **options,
        )


setattr(Protocol, "__init__", keywords.checked(Protocol.__init__))  # noqa: B010  # mypy takes `=` for a mistake

QUICK = Protocol("quick", epsilon=0.1, steps=30, m=20, pgd_steps=20, attacked=100)
"""A first look, affordable anywhere: a sixteenth of the paper's cost per example. Its `epsilon` is a placeholder: of a
`RARModel` it is that of the training, of any other model it has to be given."""

STRONG = Protocol("strong", epsilon=0.1, attack="ensemble", prediction_attack="ensemble", restarts=1, attacked=100)
"""What is found where nothing is chosen but `epsilon`, which is a placeholder as that of `QUICK`: the worst of several
attacks, for each example and measure. On the paper's network it costs as much per example as the paper's protocol."""


def _paper(
    name: str, epsilon: float, pgd: tuple[int, float], k: int, k_report: int, steps: int, step_size: float, high: float
) -> Protocol:
    return Protocol(
        f"paper, {name}",
        epsilon=epsilon,
        bounds=(0.0, high),
        pgd_steps=pgd[0],
        pgd_step_size=pgd[1],
        pgd_objectives=("crossentropy",),
        pgd_restarts=0,
        k=k,
        k_report=k_report,
        steps=steps,
        step_size=step_size,
        softplus_beta=1.0,
    )


PAPER = {
    "mnist": _paper("mnist", 0.3, (40, 0.01), 200, 100, 100, 0.01, 1.0),
    "fashion_mnist": _paper("fashion_mnist", 0.1, (20, 0.01), 100, 100, 100, 0.01, 1.0),
    "gtsrb": _paper("gtsrb", 8.0, (7, 2.0), 100, 100, 50, 1.0, 255.0),
    "oxford_flower17": _paper("oxford_flower17", 8.0, (7, 2.0), 1000, 1000, 100, 1.0, 255.0),
}
"""Chen et al. 2019, sec. 5 and supplement, by data set."""


OF_ANY_DATA: dict[str, Protocol] = {"quick": QUICK, "strong": STRONG}
"""Protocols whose `epsilon` is that of the training of a `RARModel`, and otherwise has to be given."""


def of_any_data(protocol: ProtocolName | Protocol) -> bool:
    """Whether it is the name of a protocol whose ball is that of the training, and otherwise has to be given."""
    return isinstance(protocol, str) and protocol in OF_ANY_DATA


def get(protocol: ProtocolName | Protocol, dataset: DatasetName | None = None) -> Protocol:
    """A protocol by name: `"quick"`, `"strong"`, or `"paper"` with the name of a data set.

    Raises:
        ValueError: If there is none of that name.

    Example:

    >>> get("paper", "mnist").epsilon
    0.3
    """
    if isinstance(protocol, Protocol):
        return protocol if dataset is None else checks.fail("dataset", "None with a protocol of your own", dataset)
    checks.one_of("protocol", protocol, [*OF_ANY_DATA, "paper"])
    if protocol in OF_ANY_DATA:
        return OF_ANY_DATA[protocol] if dataset is None else checks.fail(
            "dataset", f'None with protocol="{protocol}"', dataset
        )  # fmt: skip
    return PAPER[checks.one_of("dataset", dataset, PAPER)]
