"""The settings of an attribution attack: each matters, and wrong ones are refused."""

import numpy as np
import pytest
from attacking import KINDS, REGION, X, Y, eagerly, images_right, same, small, tabular, trained
from conftest import batch, dense_model

from keras_rar.attacks import AttributionAttack, MassCenterAttack, RandomAttack, TargetAttack, TopKAttack


@pytest.fixture
def compiled_functions():
    """Marks a test whose attacks are compiled."""


@pytest.fixture(autouse=True)
def _eager(request):
    yield from eagerly(request)


@pytest.fixture(scope="module")
def network():
    return trained()


@pytest.fixture(scope="module")
def data():
    return images_right()


@pytest.fixture(scope="module")
def of_five_features():
    """The result of an attack of these options, made once."""
    model, x, results = tabular(), batch(32, 5)[0], {}

    def result(**options):
        if str(options) not in results:
            results[str(options)] = small(**{"epsilon": 0.3, "step_size": 0.05, "steps": 3, "k": 2, **options})(
                model, x
            )
        return results[str(options)]

    return result


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.1},
        {"norm": "l2"},
        {"bounds": (0.0, 2.0)},
        {"steps": 5},
        {"step_size": 0.1},
        {"saliency": "gradient_x_input"},
        {"target": "loss"},
        {"rule": "left"},
        {"m": 2},
        {"baseline": 1.0},
        {"k": 1},
        {"keep": "topk_intersection", "k_report": 1},
        {"k_report": 3},
        {"softplus_beta": 20.0},
        {"saliency": "gradient", "softplus_beta": None},
        {"restarts": 3},
        {"restarts": 3, "seed": 1},
    ],
)
@pytest.mark.slow
def test_every_argument_matters(options, of_five_features):
    """Compared with the attack without the last of them."""
    assert not same(of_five_features(**options), of_five_features(**dict(list(options.items())[:-1])))


def test_the_default_step_sizes_are_those_of_the_docstrings():
    assert TopKAttack(3, 0.4).step_size == pytest.approx(0.04)
    assert RandomAttack(0.4).step_size == pytest.approx(0.8)


@pytest.mark.slow
def test_two_seeds_share_no_random_start(network, data):
    """Else the spread over seeds would look smaller than it is."""
    options = {"steps": 1, "restarts": 1}
    first, second = (KINDS["random"](seed=seed, **options)(network, *data) for seed in (0, 1))
    moved = (first.iteration > 0) & (second.iteration > 0)
    assert set(first.restart[moved]) == set(second.restart[moved]) == {0, 1}
    assert not np.any(np.all(first.x_adv == second.x_adv, axis=(1, 2, 3))[moved])


@pytest.mark.parametrize("options", [{"restarts": 2}, {"saliency": "smoothgrad"}])
def test_the_same_seed_gives_the_same_result(options):
    model = tabular()
    first, second = (small(**options)(model, X) for _ in range(2))
    np.testing.assert_array_equal(first.x_adv, second.x_adv)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: small(epsilon=0), ValueError, "`epsilon` must be a positive float. Received: epsilon=0"),
        (lambda: small(epsilon="0.1"), TypeError, "`epsilon` must be a positive float. Received: epsilon='0.1'"),
        (
            lambda: small(norm="l3"),
            ValueError,
            r"`norm` must be one of \['linf', 'l2', 'l1', 'l0'\]. Received: norm='l3'",
        ),
        (lambda: small(bounds=(1, 0)), ValueError, r"`bounds` must be None, or a pair .*Received: bounds=\(1, 0\)"),
        (lambda: small(steps=0), ValueError, "`steps` must be a positive integer. Received: steps=0"),
        (lambda: small(step_size=0), ValueError, "`step_size` must be a positive float. Received: step_size=0"),
        (lambda: small(saliency="lime"), ValueError, r"`saliency` must be one of \['ig', .*Received: saliency='lime'"),
        (lambda: small(saliency=["ig"]), ValueError, r"`saliency` must be one of .*Received: saliency=\['ig'\]"),
        (lambda: small(saliency="guided_backprop"), ValueError, "`saliency` must be .* no second derivative to follow"),
        (lambda: small(saliency="deconvolution"), ValueError, "`saliency` must be .* no second derivative to follow"),
        (lambda: small(target="label"), ValueError, "`target` must be one of .*Received: target='label'"),
        (lambda: small(rule="simpson"), ValueError, "`rule` must be one of .*Received: rule='simpson'"),
        (lambda: small(m=0), ValueError, "`m` must be a positive integer. Received: m=0"),
        (lambda: small(m="auto"), TypeError, "`m` must be a positive integer. Received: m='auto'"),
        (lambda: small(baseline="black"), TypeError, "`baseline` must be a float or an array of floats"),
        (lambda: small(chunk=0), ValueError, "`chunk` must be a positive integer. Received: chunk=0"),
        (lambda: small(keep="cosine"), ValueError, r"`keep` must be one of \['kendall_tau', .*Received: keep='cosine'"),
        (lambda: small(k=0), ValueError, "`k` must be a positive integer. Received: k=0"),
        (lambda: small(k_report=0), ValueError, "`k_report` must be a positive integer. Received: k_report=0"),
        (lambda: small(restarts=-1), ValueError, "`restarts` must be an integer >= 0. Received: restarts=-1"),
        (lambda: small(restarts=None), TypeError, "`restarts` must be an integer >= 0. Received: restarts=None"),
        (lambda: small(seed=0.5), ValueError, "`seed` must be an integer. Received: seed=0.5"),
        (lambda: small(seed=None), TypeError, "`seed` must be an integer. Received: seed=None"),
        (lambda: small(softplus_beta=0), ValueError, "`softplus_beta` must be a positive float"),
        (lambda: small(batch_size=0), ValueError, "`batch_size` must be a positive integer. Received: batch_size=0"),
        (lambda: small(jit_compile="yes"), ValueError, r"`jit_compile` must be one of \[True, False, 'auto'\]"),
        (lambda: TargetAttack(np.ones(5), 0.1), ValueError, "`region` must be an array of booleans, some of them True"),
        (lambda: TargetAttack(np.zeros(5, bool), 0.1), ValueError, "`region` must be an array of booleans, some"),
        (lambda: AttributionAttack(0.1), TypeError, "abstract"),
    ],
)
def test_constructors_validate(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("attack", "options", "error", "message"),
    [
        (small(k=5), {}, ValueError, "must be below the number of entries of the map, 5. Received: k=5"),
        (small(k=5, k_report=1), {}, ValueError, "`k` must be below the number of entries of the map, 5"),
        (small(k_report=5), {}, ValueError, "`k_report` must be below the number of entries of the map, 5"),
        (small(keep="mass_center"), {}, ValueError, "`keep` must be another similarity .* that is no image"),
        (MassCenterAttack(0.1), {}, ValueError, r"`MassCenterAttack` needs maps of shape .*Received: \(5,\)"),
        (
            TargetAttack(REGION, 0.1),
            {},
            ValueError,
            r"`region` must have the shape of a map, \(5,\). Received: \(14, 14\)",
        ),
        (small(baseline=np.zeros(3)), {}, ValueError, r"`baseline` must be .* of shape \(5,\). Received: .*\(3,\)"),
        (small(bounds=(np.zeros(3), np.ones(3))), {}, ValueError, r"`bounds` must be .*\(5,\). Received: .*\(3,\)"),
        (small(), {"x": X + 1}, ValueError, r"`x` must lie within `bounds`=\(0.0, 1.0\). Received: values from 1"),
        (small(), {"x": X[0]}, ValueError, r"`x` must have the shape \(n, 5\) with n > 0. Received: x.shape=\(5,\)"),
        (small(), {"x": X * np.nan}, ValueError, "`x` must be finite"),
        (small(), {"y": Y + 3}, ValueError, "`y` must be class indices from 0 to 2. Received: y="),
        (small(), {"y": Y[:2]}, ValueError, "`y` must hold one label per example, 6. Received: 2 labels"),
        (small(), {"model": "model.keras"}, TypeError, "must be a Keras 3 model"),
        (
            small(),
            {"gradient_model": dense_model(5, 2)},
            ValueError,
            "`gradient_model` must have the classes .*2 classes",
        ),
    ],
)
def test_calls_validate(attack, options, error, message):
    with pytest.raises(error, match=message):
        attack(**{"model": tabular(), "x": X, "y": Y, **options})
