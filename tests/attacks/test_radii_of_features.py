"""Attacks with a radius for each feature: fixed ones never move, and the others go as far as theirs lets them."""

import functools
import itertools

import keras
import numpy as np
import pytest
from attacking import eagerly

from keras_rar.attacks import (
    EnsembleAttack,
    MassCenterAttack,
    PGDAttack,
    PredictionEnsembleAttack,
    RandomAttack,
    TargetAttack,
    TopKAttack,
)

SCALE = np.array([0.2, 5.0, 1.0, 40.0, 0.01, 1.0], "float32")
RADII = SCALE * [0.3, 0.3, 0, 0.3, 0.3, 0]
FREE = RADII > 0
BOUNDS = (np.zeros(6), SCALE)
U = np.random.default_rng(0).uniform(size=(12, 6)).astype("float32")
X, Y = U * SCALE, np.arange(12) % 4
QUICK = {"steps": 2, "m": 2, "step_size": 6.0}
ON_MAPS = {
    "topk": lambda **options: TopKAttack(2, RADII, **QUICK, **options),
    "target": lambda **options: TargetAttack([True, False] * 3, RADII, **QUICK, **options),
    "random": lambda **options: RandomAttack(RADII, k_report=2, steps=2, m=2, **options),
    "ensemble": lambda **options: EnsembleAttack(RADII, k=2, steps=1, m=2, restarts=0, **options),
}
ON_PREDICTIONS = {
    "pgd": lambda **options: PGDAttack(RADII, steps=2, step_size=6.0, **options),
    **{
        name: lambda name=name, **options: PredictionEnsembleAttack(
            RADII, members=name, steps=2, queries=3, restarts=0, targets=1, **options
        )
        for name in ("apgd_targeted", "square", "noise")
    },
}
NORMS = {"linf": {"norm": "linf", "bounds": BOUNDS}, "l2": {"norm": "l2", "bounds": None}}
every_norm = pytest.mark.parametrize("norm", NORMS)


@pytest.fixture(autouse=True)
def _eager(request):
    yield from eagerly(request)


def network(scale=SCALE):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Rescaling(1 / scale),
            keras.layers.Dense(12, "tanh", kernel_initializer="random_normal"),
            keras.layers.Dense(4),
        ]
    )


def assert_within(norm, x, x_adv):
    assert x_adv[:, ~FREE].tobytes() == x[:, ~FREE].tobytes()
    change = np.abs((x_adv - x)[:, FREE] / RADII[FREE])
    lengths = change.max(axis=1) if norm == "linf" else np.linalg.norm(change, axis=1)
    assert lengths.max() <= 1 + 1e-3  # float32: ε of one feature is 0.003 where its values are near 0.01
    assert lengths.max() > 0.3
    assert np.all(change.max(axis=0) > 0.02)  # each goes a way that is long for it
    if norm == "linf":
        assert np.all((x_adv >= BOUNDS[0]) & (x_adv <= BOUNDS[1].astype("float32")))


SLOW = {("ensemble", "l2"), ("apgd_targeted", "l2"), ("noise", "l2")}


def every(attacks):
    cases = itertools.product(attacks, NORMS)
    marked = [pytest.param(*case, marks=[pytest.mark.slow] * (case in SLOW)) for case in cases]
    return pytest.mark.parametrize(("attack", "norm"), marked)


@every(ON_MAPS)
def test_an_attack_on_maps_moves_no_fixed_feature_by_a_bit(attack, norm):
    assert_within(norm, X, ON_MAPS[attack](**NORMS[norm])(network(), X, Y).x_adv)


@every(ON_PREDICTIONS)
def test_an_attack_on_predictions_moves_no_fixed_feature_by_a_bit(attack, norm):
    model = network()
    predicted = model.predict(X, verbose=0).argmax(axis=1)
    found = ON_PREDICTIONS[attack](**NORMS[norm])(model, X, predicted)
    moved = np.any(found.x_adv != X, axis=1)
    assert moved.sum() > 6
    assert_within(norm, X[moved], found.x_adv[moved])


def test_an_attack_on_the_mass_centre_moves_no_fixed_pixel():
    x = np.random.default_rng(0).uniform(size=(3, 6, 6, 1)).astype("float32")
    radii = np.full((6, 6, 1), 0.2)
    radii[2:4] = 0
    layers = [keras.layers.Conv2D(2, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    found = MassCenterAttack(radii, steps=2, m=2)(model, x).x_adv
    assert found[:, 2:4].tobytes() == x[:, 2:4].tobytes()
    assert np.any(found[:, :2] != x[:, :2])


@every_norm
def test_scaled_inputs_with_one_radius_are_attacked_alike(norm):
    """`f(x)` with ε = 0.3 scale is `f(scale u)` with ε = 0.3, where no feature is fixed."""
    scale = 2.0 ** np.array([-3, 2, 0, 5, -7, 1])  # exact, so that both are rounded alike
    raw, bounds = (U * scale).astype("float32"), NORMS[norm]["bounds"] and (np.zeros(6), scale)
    options = {"norm": norm, "steps": 2, "restarts": 0}
    for make, y in (
        (lambda epsilon, bounds: TopKAttack(2, epsilon, bounds=bounds, m=2, **options), None),
        (lambda epsilon, bounds: PGDAttack(epsilon, bounds=bounds, **options), Y),
    ):
        mine = make(0.3 * scale, bounds)(network(scale), raw, y).x_adv
        other = make(0.3, bounds and (0.0, 1.0))(network(np.ones(6)), U, y).x_adv
        np.testing.assert_allclose(mine / scale, other, rtol=0, atol=1e-4)
    unscaled = PGDAttack(0.3, bounds=None, **options)(network(scale), raw, Y).x_adv
    assert np.abs(unscaled / scale - other).max() > 0.05  # a control


@pytest.mark.parametrize("attack", ["pgd", "ensemble"])
@pytest.mark.parametrize(("share", "robust"), [(0.98, True), (1.02, False)])
def test_a_linear_network_breaks_where_epsilon_reaches_its_margin(attack, share, robust):
    """The margin `a·x` of two classes is lost at `Σ εᵢ|aᵢ| = a·x`, and not before."""
    a = np.array([4.0, -0.1, 9.0, 0.02], "float32")
    x = np.array([[0.5, 1.0, 0.3, 10.0]], "float32")
    shape = np.array([0.1, 3.0, 0.0, 20.0])
    radii = share * shape * (x @ a)[0] / np.sum(shape * np.abs(a))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.stack([a, np.zeros(4)], axis=1)])
    make = PGDAttack if attack == "pgd" else functools.partial(PredictionEnsembleAttack, members="square", queries=20)
    found = make(radii, bounds=None, steps=12, restarts=0)(model, x, [0])
    assert found.robust.tolist() == [robust]


def test_a_gradient_of_fixed_features_alone_leads_nowhere_so_noise_does():
    """The step function of the feature that may change has no gradient; the fixed one has."""
    step = keras.layers.Lambda(lambda z: keras.ops.stack([keras.ops.sign(z[:, 0] - 0.5), z[:, 1]], axis=1))
    model = keras.Sequential([keras.Input((2,)), step, keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[1, 0], [0.1, 0]], "float32")])
    x = np.array([[0.6, 0.5]], "float32")
    options = {"members": "apgd_crossentropy", "steps": 12, "restarts": 0}
    assert not PredictionEnsembleAttack([0.5, 0], **options)(model, x, [0]).robust[0]
    assert PredictionEnsembleAttack([0.05, 0], **options)(model, x, [0]).robust[0]  # a control: not near enough


def test_radii_that_change_nothing_or_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`epsilon` must change the inputs in float32, within the bounds"):
        TopKAttack(2, [1e-12, 0, 0, 0, 0, 0])(network(), U)
    for make in (lambda epsilon: TopKAttack(2, epsilon), PGDAttack, PredictionEnsembleAttack):
        with pytest.raises(ValueError, match="`epsilon` must be a float or an array that broadcasts to an input"):
            make([0.1, 0.2])(network(), U, Y)
        with pytest.raises(ValueError, match=r'`epsilon` must be a positive integer with norm="l0"'):
            type(make(0.1))(**({"k": 2} if isinstance(make(0.1), TopKAttack) else {}), epsilon=[1, 0], norm="l0")
