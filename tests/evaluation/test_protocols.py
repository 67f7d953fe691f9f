"""The settings of an evaluation: the paper's table cell by cell, and a name that owns up to every change."""

import dataclasses
import functools
import json
import operator
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_rar import attacks, quadrature
from keras_rar.core import saliency_methods as saliency
from keras_rar.evaluation import plain_values, protocols
from keras_rar.evaluation.protocols import Protocol
from keras_rar.evaluation.settings import CONTROLS

NAN = float("nan")
ENTRIES = {"mnist": 28 * 28, "fashion_mnist": 28 * 28, "gtsrb": 32 * 32, "oxford_flower17": 128 * 128}
TABLE = {  # Chen et al. 2019, sec. 5 and supplement
    "mnist": {
        "epsilon": 0.3, "bounds": (0.0, 1.0), "pgd_steps": 40, "pgd_step_size": 0.01,
        "k": 200, "k_report": 100, "steps": 100, "step_size": 0.01,
    },
    "fashion_mnist": {
        "epsilon": 0.1, "bounds": (0.0, 1.0), "pgd_steps": 20, "pgd_step_size": 0.01,
        "k": 100, "k_report": 100, "steps": 100, "step_size": 0.01,
    },
    "gtsrb": {
        "epsilon": 8.0, "bounds": (0.0, 255.0), "pgd_steps": 7, "pgd_step_size": 2.0,
        "k": 100, "k_report": 100, "steps": 50, "step_size": 1.0,
    },
    "oxford_flower17": {
        "epsilon": 8.0, "bounds": (0.0, 255.0), "pgd_steps": 7, "pgd_step_size": 2.0,
        "k": 1000, "k_report": 1000, "steps": 100, "step_size": 1.0,
    },
}  # fmt: skip
COMMON = {  # to all data sets
    "norm": "linf", "prediction_attack": "pgd", "attack": "topk",
    "restarts": 0, "pgd_restarts": 0, "pgd_objectives": ("crossentropy",),
    "saliency": "ig", "target": "logit", "rule": "right", "m": 100, "baseline": 0.0,
    "keep": "kendall_tau", "softplus_beta": 1.0, "attacked": None, "data_format": "auto", "layer": None,
}  # fmt: skip
CELLS = [(dataset, name, value) for dataset, row in TABLE.items() for name, value in {**row, **COMMON}.items()]


def by_a_function(model, x, y):
    return x


# The paper


@pytest.mark.parametrize(("dataset", "name", "value"), CELLS)
def test_a_cell_of_the_paper_s_table(dataset, name, value):
    assert getattr(protocols.get("paper", dataset), name) == value


def test_every_setting_of_the_paper_is_in_the_table():
    fields = {field.name for field in dataclasses.fields(Protocol)}
    assert set(protocols.PAPER) == set(TABLE)
    for row in TABLE.values():
        assert fields - {"name", "seed", *CONTROLS} == {*row, *COMMON}


@pytest.mark.parametrize("dataset", TABLE)
def test_the_paper_s_attacks_are_deterministic_and_of_the_table(dataset):
    row, protocol = TABLE[dataset], protocols.get("paper", dataset)
    attack, pgd = protocol.attribution_attack(ENTRIES[dataset]), protocol.pgd_attack()
    assert type(attack) is attacks.TopKAttack
    assert attack.saliency == saliency.IntegratedGradients(quadrature.right(100), 0.0, "auto")
    for name in ("epsilon", "k", "k_report", "steps", "step_size"):
        assert getattr(attack, name) == row[name]
    assert (pgd.epsilon, pgd.steps, pgd.step_size) == (row["epsilon"], row["pgd_steps"], row["pgd_step_size"])
    assert (attack.bounds, pgd.bounds) == (row["bounds"], row["bounds"])
    assert (attack.restarts, pgd.restarts) == (0, 0)
    attack.check_map((ENTRIES[dataset],))  # k fits


def test_quick_is_cheaper_than_the_paper_and_bounded():
    quick, paper = protocols.get("quick"), protocols.get("paper", "fashion_mnist")
    assert 10 * quick.steps * quick.m <= paper.steps * paper.m
    assert quick.attacked == 100


def test_strong_has_every_attack_there_is():
    strong = protocols.get("strong")
    assert strong is protocols.STRONG
    assert strong.prediction_attack == list(protocols.PREDICTION_ATTACKS)[-1]
    attack = strong.attribution_attack(64)
    assert type(attack) is attacks.EnsembleAttack
    assert (attack.k, attack.k_report, attack.step_size) == (8, 8, 2 * strong.epsilon)
    assert attack.saliency == IG(quadrature.right(100), 0.0)
    assert isinstance(strong.pgd_attack(), protocols.PREDICTION_ATTACKS[strong.prediction_attack])


def test_the_ball_of_strong_has_to_be_given():
    """As that of quick, unless a model is trained in one."""
    assert protocols.of_any_data("quick")
    assert protocols.of_any_data("strong")
    assert not protocols.of_any_data("paper")
    assert not protocols.of_any_data(protocols.STRONG)


def test_strong_costs_at_most_three_times_as_much_as_the_paper():
    """In passes over the network for one map of an image: a map of n nodes takes 2n, its gradient 4n more."""
    paper, strong = protocols.get("paper", "fashion_mnist"), protocols.get("strong")
    attack = strong.attribution_attack(784)
    nodes, shape = len(attack.followed.rule), (28, 28)
    ascents = [name for name in attack.members(shape) if name not in ("evolution", "noise")]
    gradients = len(ascents) * attack.steps * (attack.restarts + 1)
    last = 2 * -(-attack.steps // 3)  # of two ascents, in the map of the report
    searched = 2 * attack.queries(shape) - last
    passes = nodes * (4 * gradients + 2 * searched) + 6 * strong.m * last
    passes += 2 * strong.m * 3 * (len(attack.members(shape)) + 2)
    assert passes <= 3 * 6 * paper.steps * paper.m
    assert 100_000 <= passes <= 104_000  # the docstring of `EnsembleAttack`


@pytest.mark.parametrize(("entries", "eighth"), [(784, 98), (16384, 2048), (9, 1), (4, 1), (1, 1)])
def test_k_is_an_eighth_of_the_map_unless_given(entries, eighth):
    attack = Protocol("mine", epsilon=0.1).attribution_attack(entries)
    assert (attack.k, attack.k_report) == (eighth, eighth)
    attack = Protocol("mine", epsilon=0.1, k=3, k_report=5).attribution_attack(entries)
    assert (attack.k, attack.k_report) == (3, 5)


@pytest.mark.parametrize("kind", ["topk", "mass_center", "random", "ensemble"])
def test_k_of_the_report_is_k_unless_given(kind):
    """Of the control too, or its intersection would be compared with that of another k."""
    assert Protocol("mine", epsilon=0.1, attack=kind, k=3).attribution_attack(64).k_report == 3
    assert Protocol("mine", epsilon=0.1, attack=kind, k=3, k_report=7).attribution_attack(64).k_report == 7
    assert Protocol("mine", epsilon=0.1, attack=kind, k_report=7).attribution_attack(64).k_report == 7


# Every setting reaches an attack

IG = functools.partial(saliency.IntegratedGradients, chunk="auto")
REACHES = {  # setting: a value, and what the attribution attack and PGD then hold of it
    "epsilon": (0.25, {"epsilon": 0.25}, {"epsilon": 0.25}),
    "norm": ("l2", {"norm": "l2"}, {"norm": "l2"}),
    "bounds": ((-1.0, 2.0), {"bounds": (-1.0, 2.0)}, {"bounds": (-1.0, 2.0)}),
    "prediction_attack": ("ensemble", {}, {"__class__": attacks.PredictionEnsembleAttack}),
    "pgd_steps": (7, {"steps": 100}, {"steps": 7}),
    "pgd_step_size": (0.03, {"step_size": 0.01}, {"step_size": 0.03}),
    "pgd_objectives": (("margin",), {}, {"objectives": ("margin",)}),
    "pgd_restarts": (3, {"restarts": 0}, {"restarts": 3}),
    "attack": ("mass_center", {"__class__": attacks.MassCenterAttack}, {}),
    "k": (5, {"k": 5, "k_report": 5}, {}),
    "k_report": (5, {"k": 8, "k_report": 5}, {}),
    "steps": (7, {"steps": 7}, {"steps": 40}),
    "step_size": (0.03, {"step_size": 0.03}, {"step_size": 0.01}),
    "restarts": (3, {"restarts": 3}, {"restarts": 1}),
    "keep": ("spearman_rho", {"keep": "spearman_rho"}, {}),
    "saliency": ("gradient", {"saliency": saliency.Gradient()}, {}),
    "target": ("loss", {"target": "loss"}, {}),
    "rule": ("midpoint", {"saliency": IG(quadrature.midpoint(100), 0.0)}, {}),
    "m": (7, {"saliency": IG(quadrature.right(7), 0.0)}, {}),
    "baseline": (0.5, {"saliency": IG(quadrature.right(100), 0.5)}, {}),
    "softplus_beta": (None, {"softplus_beta": None}, {}),
    "data_format": ("channels_first", {"data_format": "channels_first"}, {}),
    "seed": (9, {"seed": 9}, {"seed": 9}),
}


@pytest.mark.parametrize("name", REACHES)
def test_a_setting_reaches_its_attack(name):
    value, of_attribution, of_pgd = REACHES[name]
    before, after = Protocol("mine", epsilon=0.1), Protocol("mine", **{"epsilon": 0.1, name: value})
    attack, pgd = after.attribution_attack(64), after.pgd_attack()
    for key, expected in of_attribution.items():
        assert getattr(attack, key) == expected
    for key, expected in of_pgd.items():
        assert getattr(pgd, key) == expected
    reads = [(before.attribution_attack(64), attack, of_attribution), (before.pgd_attack(), pgd, of_pgd)]
    assert any(getattr(old, key) != getattr(new, key) for old, new, held in reads for key in held)


def test_every_setting_is_tested():
    known = {*REACHES, "name", "attacked", "layer", *CONTROLS}  # attacks are given what is behind the layer
    assert known == {field.name for field in dataclasses.fields(Protocol)}


def test_options_reach_both_attacks():
    protocol = Protocol("mine", epsilon=0.1)
    for attack in (protocol.pgd_attack(batch_size=3, jit_compile=True),
                   protocol.attribution_attack(64, batch_size=3, jit_compile=True)):  # fmt: skip
        assert operator.attrgetter("batch_size", "jit_compile")(attack) == (3, True)
    assert protocol.attribution_attack(64, chunk=5).saliency.chunk == 5


# Changes


def test_a_change_is_in_the_name():
    paper = protocols.get("paper", "mnist")
    changed = paper.changed(epsilon=0.1, restarts=2)
    assert (changed.epsilon, changed.restarts, changed.steps) == (0.1, 2, paper.steps)
    assert changed.name == "paper, mnist, changed: epsilon=0.1, restarts=2"
    again = changed.changed(epsilon=0.05)
    assert again.name == "paper, mnist, changed: epsilon=0.1, restarts=2, changed: epsilon=0.05"
    assert (paper.name, paper.epsilon) == ("paper, mnist", 0.3)


@pytest.mark.parametrize("changes", [{}, {"epsilon": 0.3}, {"bounds": [0, 1]}, {"baseline": np.float32(0)}])
def test_what_is_as_it_was_is_no_change(changes):
    assert protocols.get("paper", "mnist").changed(**changes).name == "paper, mnist"


@pytest.mark.parametrize(
    ("name", "hint"), [("epsilom", "; did you mean `epsilon`?"), ("zzz", "."), ("name", "."), ("", ".")]
)
def test_an_unknown_setting_is_a_type_error(name, hint):
    """Neither is the name to be set: it would hide the changes."""
    message = re.escape(f"`Protocol.changed` has no argument `{name}`{hint} It has epsilon, norm, ")
    with pytest.raises(TypeError, match=rf"^{message}.*Received: {name}=1$"):
        protocols.get("paper", "mnist").changed(**{name: 1, "epsilon": 0.1})


def test_an_unknown_setting_of_a_new_protocol_is_a_type_error():
    message = "`Protocol` has no argument `pgd_step`; did you mean `pgd_steps`? It has name, epsilon, "
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        Protocol("mine", epsilon=0.1, pgd_step=3)
    with pytest.raises(TypeError, match="epsilon"):
        Protocol("mine")


@pytest.mark.parametrize("baseline", [np.full(4, 0.5), tf.fill([4], 0.5), [0.5] * 4])
def test_a_change_to_an_array_is_named(baseline):
    changed = protocols.get("quick").changed(baseline=baseline)
    assert changed.name == "quick, changed: baseline=[0.5, 0.5, 0.5, 0.5]"
    assert changed.changed(baseline=np.full(4, 0.5)) is changed


def test_bounds_may_be_arrays():
    changed = protocols.get("quick").changed(bounds=(np.zeros(2), np.ones(2)))
    assert changed.name == "quick, changed: bounds=[[0.0, 0.0], [1.0, 1.0]]"
    assert changed.pgd_attack().neighborhood.bounds == ([0.0, 0.0], [1.0, 1.0])


def test_a_name_stays_short_and_holds_no_address_of_memory():
    names = [protocols.get("quick").changed(saliency=method).name for method in (by_a_function, IG())]
    names.append(protocols.get("quick").changed(baseline=np.zeros((28, 28, 1))).name)
    assert names[0] == "quick, changed: saliency=by_a_function"
    for name in names:
        assert len(name) < 100
        assert "\n" not in name
        assert " at 0x" not in name


SETTINGS = [
    (0.1, 0.1),
    (np.float32(0.5), 0.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (None, None),
    ("ig", "ig"),
    (("margin",), ["margin"]),
    ((0.0, np.ones(2)), [0.0, [1.0, 1.0]]),
    (np.zeros((1, 2)), [[0.0, 0.0]]),
    (tf.constant([1.0]), [1.0]),
    (by_a_function, "by_a_function"),
    (keras.activations.relu, "relu"),
    (functools.partial(by_a_function), "partial"),
    (saliency.Gradient(), {"class": "Gradient"}),
    (saliency.SmoothGrad(4), {"class": "SmoothGrad", "samples": 4, "noise": 0.1, "seed": 0, "chunk": "auto"}),
]


@pytest.mark.parametrize(("value", "expected"), SETTINGS)
def test_settings_become_json(value, expected):
    found = plain_values.plain(value)
    assert found == expected
    assert type(found) is type(expected)
    assert json.loads(json.dumps(found)) == expected


def test_settings_that_differ_differ_as_json():
    rules = [plain_values.plain(saliency.IntegratedGradients(rule)) for rule in map(quadrature.right, (3, 4))]
    baselines = np.zeros((2, 2000))
    baselines[1, 1000] = 1  # where NumPy prints an ellipsis
    baselines = [plain_values.plain(saliency.IntegratedGradients(baseline=baseline)) for baseline in baselines]
    assert rules[0] != rules[1]
    assert baselines[0] != baselines[1]


# What is refused

BAD_COUNTS = [(-1, ValueError), (1.5, ValueError)]
WRONG = [
    ("epsilon", -1, ValueError),
    ("epsilon", NAN, ValueError),
    ("epsilon", "0.1", TypeError),
    ("norm", "l7", ValueError),
    ("bounds", (1, 0), ValueError),
    ("bounds", 5, TypeError),
    ("bounds", (0, 1, 2), TypeError),
    ("pgd_steps", 0, ValueError),
    ("pgd_step_size", 0.0, ValueError),
    ("pgd_objectives", ("hinge",), ValueError),
    ("pgd_objectives", (), ValueError),
    ("pgd_restarts", -1, ValueError),
    ("attack", "target", ValueError),
    ("prediction_attack", "topk", ValueError),
    ("k", 0, ValueError),
    ("k_report", 2.5, ValueError),
    ("steps", 0, ValueError),
    ("step_size", -0.1, ValueError),
    ("restarts", 1.5, ValueError),
    ("keep", "tau", ValueError),
    ("saliency", "guided_backprop", ValueError),
    ("saliency", "nope", ValueError),
    ("target", "y", ValueError),
    ("rule", "simpson", ValueError),
    ("m", 0, ValueError),
    ("baseline", NAN, ValueError),
    ("softplus_beta", 0.0, ValueError),
    ("data_format", "first", ValueError),
    ("layer", 3, TypeError),
    ("attacked", 0, ValueError),
    ("attacked", True, TypeError),
    *[(name, value, error) for name in ("noise", "faithful", "certified") for value, error in BAD_COUNTS],
    ("other_maps", "gradient", TypeError),
    ("other_maps", ("tau",), ValueError),
    ("other_maps", (3,), ValueError),
    ("seed", -1, ValueError),
    ("seed", 1.5, ValueError),
    ("seed", None, TypeError),
]


@pytest.mark.parametrize(("name", "value", "error"), WRONG)
@pytest.mark.parametrize("make", ["new", "changed"])
def test_wrong_settings_are_refused_when_they_are_made(make, name, value, error):
    settings = {"epsilon": 0.1, name: value}
    with pytest.raises(error, match=r"^`\w+` must be .*\. Received: \w+="):
        Protocol("mine", **settings) if make == "new" else protocols.get("quick").changed(**settings)


def test_every_setting_has_a_wrong_value():
    assert {name for name, *_ in WRONG} == {field.name for field in dataclasses.fields(Protocol)} - {"name"}


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        (("quicker",), "protocol"),
        ((None,), "protocol"),
        ((3,), "protocol"),
        (("paper",), "dataset"),
        (("paper", "cifar10"), "dataset"),
        (("quick", "mnist"), "dataset"),
        (("strong", "mnist"), "dataset"),
        ((Protocol("mine", epsilon=0.1), "mnist"), "dataset"),
    ],
)
def test_unknown_protocols_are_refused(arguments, argument):
    with pytest.raises(ValueError, match=rf"^`{argument}` must be .*Received: {argument}="):
        protocols.get(*arguments)


def test_a_protocol_of_one_s_own_is_taken_as_it_is():
    mine = Protocol("mine", epsilon=0.1)
    assert protocols.get(mine) is mine
    with pytest.raises(dataclasses.FrozenInstanceError):
        mine.epsilon = 0.2
