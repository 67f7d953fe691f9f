"""The ensemble on predictions: closed forms, controls, networks that hide, and what a result promises."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model

from keras_rar.attacks import PGDAttack, PredictionEnsembleAttack, PredictionEnsembleResult
from keras_rar.paper import datasets

X, _ = batch(60, 5)
NORMS = {"linf": 0.12, "l2": 0.25, "l1": 0.5, "l0": 1}


def linear(classes, scale=1.0, x=X):
    """Logits `w x + b`, undecided in the middle of the box, and the labels that it predicts."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(classes)])
    w = np.random.default_rng(1).normal(size=(5, classes))
    model.set_weights([scale * w, -0.5 * scale * w.sum(axis=0)])
    logits = model.predict(x, verbose=0)
    return model, w, (logits[:, 0] > 0).astype(int) if classes == 1 else logits.argmax(axis=1)


def least_margin(w, x, y, norm, epsilon):
    """`min_{x′} min_c z_y − z_c`, exactly: for each class, by the features in which it pays most to move."""
    w = np.concatenate([0 * w, w], axis=1) if w.shape[1] == 1 else w
    margins = []
    for c in range(w.shape[1]):
        d = (w[:, y] - w[:, [c]]).T
        reach = np.minimum(d * (0 - x), d * (1 - x))  # to the better end of the box
        if norm == "linf":
            drop = np.sum(np.maximum(reach, -epsilon * np.abs(d)), axis=1)
        elif norm == "l0":
            drop = np.sum(np.sort(reach, axis=1)[:, : int(epsilon)], axis=1)
        else:
            drop = -epsilon * np.linalg.norm(d, 2 if norm == "l2" else np.inf, axis=1)  # without a box
        margins.append(np.where(y == c, np.inf, np.sum((x - 0.5) * d, axis=1) + drop))
    return np.min(margins, axis=0)


def stairs(model):
    """The same network behind a staircase, whose slope is 0 everywhere."""
    inputs = keras.Input((5,))
    return keras.Model(inputs, model(keras.ops.round(20 * inputs) / 20))


# Closed forms, and controls


@pytest.mark.parametrize(
    "classes", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_network_is_solved(norm, classes):
    """Its radius is known exactly."""
    x = np.round(X) if norm == "l0" else X  # corners of the box, so that one feature does not decide everywhere
    model, w, y = linear(classes, x=x)
    options = {"norm": norm, "bounds": None if norm in ("l2", "l1") else (0.0, 1.0), "restarts": 0, "queries": 60}
    margin = least_margin(w, x, y, norm, NORMS[norm])
    decided = np.abs(margin) > 1e-4  # rounding of float32
    found = PredictionEnsembleAttack(NORMS[norm], steps=12, **options)(model, x, y)
    np.testing.assert_array_equal(found.robust[decided], margin[decided] > 0)
    assert found.robust.mean() < 0.95
    assert found.robust.any() or (norm, classes) == ("l0", 4)  # one feature decides every example of that one


def test_gradients_that_are_masked_hide_nothing_from_squares():
    model, _, y = linear(3)
    hidden = stairs(model)
    y = hidden.predict(X, verbose=0).argmax(axis=1)
    options = {"epsilon": 0.15, "steps": 6, "restarts": 0, "queries": 100}
    pgd = PGDAttack(0.15, steps=20)(hidden, X, y)
    found = PredictionEnsembleAttack(**options)(hidden, X, y)
    honest = PredictionEnsembleAttack(**options, members="apgd_ratio")(model, X, y)
    assert found.members[-1] == "square"
    assert np.sum(found.broken_by == 2 if len(found.members) == 3 else found.broken_by == 3) > 0
    assert found.robust.sum() < pgd.robust.sum()
    assert found.robust.mean() == pytest.approx(honest.robust.mean(), abs=0.15)  # steps of 0.05 in front


@pytest.mark.slow
def test_a_saturated_softmax_hides_nothing_from_the_ratio():
    """Logits times 10⁵: the cross-entropy is 0 in float32, and the decisions are as before."""
    model, _, y = linear(3)
    saturated, _, _ = linear(3, scale=1e5)
    options = {"epsilon": 0.15, "steps": 8, "restarts": 0}
    entropy, ratio = (
        PredictionEnsembleAttack(members=m, **options)(saturated, X, y) for m in ("apgd_crossentropy", "apgd_ratio")
    )
    honest = PredictionEnsembleAttack(members="apgd_ratio", **options)(model, X, y)
    np.testing.assert_array_equal(ratio.robust, honest.robust)
    assert entropy.robust.sum() > ratio.robust.sum() + 3


# What a result promises


@pytest.fixture(scope="module")
def wide():
    """A network that is not solved by one step, with the labels it predicts, some of them changed."""
    keras.utils.set_random_seed(3)
    model = dense_model(5, classes=4, hidden=32, activation="relu")
    model.set_weights([3 * w if w.ndim > 1 else np.linspace(-1, 1, w.size) for w in model.get_weights()])
    y = model.predict(X, verbose=0).argmax(axis=1)
    y[:10] = (y[:10] + 1) % 4
    return model, y, PredictionEnsembleAttack(0.2, steps=6, queries=30)(model, X, y)


@pytest.mark.slow
def test_columns_fit_together(wide):
    model, y, found = wide
    after = model.predict(found.x_adv, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(found.correct, np.arange(60) >= 10)
    np.testing.assert_array_equal(found.robust, found.correct & (after == y))
    np.testing.assert_array_equal(found.broken_by >= 0, found.correct & (after != y))
    np.testing.assert_array_equal(found.x_adv[:10], X[:10])
    assert found.members == ("apgd_crossentropy", "apgd_ratio", "apgd_targeted", "square")
    assert 0 < found.robust.sum() < 50
    assert np.all(np.abs(found.x_adv - X) <= 0.2 + 1e-6)


@pytest.mark.slow
def test_neither_the_batch_nor_where_it_is_gone_on_changes_anything(wide):
    model, y, found = wide
    attack = PredictionEnsembleAttack(0.2, steps=6, queries=30, batch_size=25)
    told = []
    parts = list(attack.iterate(model, X, y, progress=told.append))
    joined = PredictionEnsembleResult.concatenate(parts)
    (rest,) = attack.iterate(model, X, y, first=50)
    np.testing.assert_array_equal(joined.broken_by, found.broken_by)
    np.testing.assert_allclose(joined.x_adv, found.x_adv, atol=1e-5)
    np.testing.assert_array_equal(rest.broken_by, found.broken_by[50:])
    assert joined.members == found.members
    assert told == sorted(told)
    assert told[-1] <= 60


def test_it_is_never_weaker_than_pgd(wide):
    model, y, found = wide
    assert found.robust.sum() <= PGDAttack(0.2, steps=20)(model, X, y).robust.sum()


def test_members_depend_on_the_classes():
    """Each on a network of its own; nothing is compiled for them."""
    model, _, y = linear(1)
    found = PredictionEnsembleAttack(1e-4, steps=1, queries=1)(model, X[:2], y[:2])
    assert found.members == ("apgd_crossentropy", "apgd_margin", "square")
    with pytest.raises(ValueError, match="`members` must be more than the targeted one for 1 classes"):
        PredictionEnsembleAttack(0.1, members="apgd_targeted")(model, X, y)


def test_squares_break_more_images_than_noise_of_as_many_queries():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(4)])
    x = np.random.default_rng(0).uniform(size=(40, 6, 6, 2)).astype("float32")
    y = model.predict(x, verbose=0).argmax(axis=1)
    for norm, epsilon in (("linf", 0.05), ("l2", 0.35), ("l1", 1.0), ("l0", 3)):
        square, noise = (
            PredictionEnsembleAttack(epsilon, norm=norm, members=m, queries=150)(model, x, y)
            for m in ("square", "noise")
        )
        assert square.robust.sum() < noise.robust.sum()
        changed = np.any(square.x_adv != x, axis=-1).sum(axis=(1, 2))
        assert norm != "l0" or np.all(changed <= 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"members": ()}, ValueError, r"`members` must be one or more of .*Received: members=\(\)"),
        ({"members": "pgd"}, ValueError, r"`members` must be one of .*Received: members='pgd'"),
        ({"queries": 0}, ValueError, "`queries` must be a positive integer. Received: queries=0"),
        ({"targets": -1}, ValueError, "`targets` must be an integer >= 0. Received: targets=-1"),
        ({"norm": "l0", "epsilon": 0.5}, ValueError, "`epsilon` must be a positive integer with norm"),
    ],
)
def test_constructors_validate(options, error, message):
    with pytest.raises(error, match=message):
        PredictionEnsembleAttack(**{"epsilon": 0.1, **options})


def test_an_impossible_l0_is_refused_before_anything_is_attacked():
    for attack in (PredictionEnsembleAttack(5, norm="l0"), PGDAttack(5, norm="l0")):
        with pytest.raises(ValueError, match='`epsilon` must be less than the number of features with norm="l0", 5'):
            attack(linear(3)[0], X, linear(3)[2])


@pytest.mark.slow
def test_xla_gives_the_same(wide):
    model, y, found = wide
    compiled = PredictionEnsembleAttack(0.2, steps=6, queries=30, jit_compile=True)(model, X, y)
    np.testing.assert_array_equal(compiled.broken_by, found.broken_by)


# Another library


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.05), ("l2", 1.0)])
def test_at_least_as_strong_as_the_attacks_of_art(norm, epsilon):
    """APGD on two objectives and Square of the Adversarial Robustness Toolbox, one after another, with as many steps.

    One example of slack: both draw their starts and squares at random, and not alike.
    """
    pytest.importorskip("art.attacks.evasion", reason="adversarial-robustness-toolbox is not installed")
    from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack
    from art.estimators.classification import TensorFlowV2Classifier

    model = keras.saving.load_model("examples/networks/natural.keras", compile=False)
    x, y = (part[:50] for part in datasets.load("fashion_mnist_mini")[0])
    order, common = {"linf": np.inf, "l2": 2}[norm], {"eps": epsilon, "batch_size": 50, "verbose": False}

    class Objective:
        """What their code asks of a loss: to be reduced or not, as it says."""

        reduction = "sum_over_batch_size"

        def __init__(self, function):
            self.function = function

        def __call__(self, y, logits):
            losses = self.function(tf.cast(y, logits.dtype), logits)
            return losses if self.reduction == "none" or self.reduction is None else tf.reduce_mean(losses)

    def ratio(y, logits):
        highest, label = tf.math.top_k(logits, 3).values, tf.reduce_sum(y * logits, axis=1)
        other = tf.reduce_max(logits - 1e9 * y, axis=1)
        return (other - label) / (highest[:, 0] - highest[:, 2] + 1e-12)

    keras.losses.Reduction = type("Reduction", (), {"NONE": "none", "SUM_OVER_BATCH_SIZE": "mean", "SUM": "sum"})
    left = model.predict(x, verbose=0).argmax(axis=1) == y
    natural = left.sum()
    for function in (tf.nn.softmax_cross_entropy_with_logits, ratio, None):
        loss = Objective(function or tf.nn.softmax_cross_entropy_with_logits)
        theirs = TensorFlowV2Classifier(model, 10, (28, 28, 1), loss_object=loss, clip_values=(0, 1))
        if function is None:
            attack = SquareAttack(theirs, norm=order, max_iter=200, p_init=0.8, **common)
        else:
            options = {"norm": order, "eps_step": 2 * epsilon, "max_iter": 20, "nb_random_init": 1}
            attack = AutoProjectedGradientDescent(theirs, loss_type=None, **options, **common)
        if left.any():
            x_adv = attack.generate(x[left], np.eye(10)[y[left]])
            moved = np.linalg.norm((x_adv - x[left]).reshape(len(x_adv), -1), ord=order, axis=1)
            valid = moved <= epsilon + 1e-5  # their squares return NaN in L2 where nothing is left to draw
            left[left] = ~valid | (model.predict(x_adv, verbose=0).argmax(axis=1) == y[left])
    found = PredictionEnsembleAttack(epsilon, norm=norm, steps=20, queries=200)(model, x, y)
    print(f"{norm} {epsilon}: right {natural}, left by theirs {left.sum()}, by ours {found.robust.sum()}")
    assert left.sum() < natural - 10  # theirs is an attack
    assert found.robust.sum() <= left.sum() + 1
