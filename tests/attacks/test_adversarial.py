"""PGD on predictions: closed forms of linear models, and an attack that is as strong as it can be had."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, some_slow, wrapped

from keras_rar.attacks import PGDAttack
from keras_rar.attacks.prediction import PGDResult
from keras_rar.networks.classifier import Classifier
from keras_rar.paper import datasets

X, Y = batch(60, 5)
OBJECTIVES = ["crossentropy", "margin", ("crossentropy", "margin")]
every_objective = pytest.mark.parametrize("objectives", OBJECTIVES)


def linear_model(classes=2, scale=1.0, output=None):
    """Logits `w x + b`, and its weights."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(classes, output)])
    rng = np.random.default_rng(1)
    w = rng.normal(size=(5, classes))
    b = -0.5 * w.sum(axis=0)  # the middle of the box is undecided
    model.set_weights([scale * w, scale * b])
    return model, w.astype("float32"), b.astype("float32")


def least_margin(w, b, y, epsilon, norm="linf", bounds=None):
    """`min_{x′} min_c z_y − z_c` of a linear model, exactly: linear in x′, for each class apart."""
    margins = []
    for c in range(w.shape[1]):
        d = w[:, y].T - w[:, [c]].T
        margin = np.sum(X * d, axis=1) + b[y] - b[c]
        lower, upper = (-epsilon, epsilon) if bounds is None else (
            np.maximum(-epsilon, bounds[0] - X),
            np.minimum(epsilon, bounds[1] - X),
        )  # fmt: skip
        drop = (
            np.sum(np.minimum(lower * d, upper * d), axis=1) if norm == "linf" else -epsilon * np.linalg.norm(d, axis=1)
        )
        margins.append(np.where(y == c, np.inf, margin + drop))
    return np.min(margins, axis=0)


def relu_network():
    """One that PGD does not solve: wide, with large weights."""
    keras.utils.set_random_seed(3)
    model = dense_model(5, hidden=64, activation="relu")
    model.set_weights([3 * w if w.ndim > 1 else np.linspace(-1, 1, w.size) for w in model.get_weights()])
    return model


def correct_labels(model, x=X):
    return Classifier(model).predicted(tf.constant(x)).numpy()


# Closed forms


@every_objective
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0), (np.zeros(5), np.array([1.0, 1.0, 1.2, 3.0, 1.0]))])
@pytest.mark.parametrize("epsilon", some_slow([0.05, 0.15], [0.05]))
def test_a_linear_model_of_two_classes_is_solved(epsilon, bounds, objectives):
    """Robust where the margin exceeds `ε ‖w_y − w_c‖₁`, less what the box holds back."""
    model, w, b = linear_model()
    margin = least_margin(w, b, Y % 2, epsilon, bounds=bounds)
    result = PGDAttack(epsilon, bounds=bounds, objectives=objectives, steps=12)(model, X, Y % 2)
    decided = np.abs(margin) > 1e-4  # rounding of float32
    assert decided.mean() > 0.9
    np.testing.assert_array_equal(result.robust[decided], margin[decided] > 0)
    assert 0 < result.robust.sum() < result.correct.sum() < 60


@every_objective
@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_a_linear_model_of_two_classes_is_solved_in_l2(epsilon, objectives):
    """Robust where the margin exceeds `ε ‖w_y − w_c‖₂`."""
    model, w, b = linear_model()
    margin = least_margin(w, b, Y % 2, epsilon, "l2")
    result = PGDAttack(epsilon, norm="l2", bounds=None, objectives=objectives, steps=12)(model, X, Y % 2)
    decided = np.abs(margin) > 1e-4
    np.testing.assert_array_equal(result.robust[decided], margin[decided] > 0)
    assert 0 < result.robust.sum() < result.correct.sum()


@pytest.mark.parametrize("output", [None, "sigmoid"])
def test_one_output_unit_is_solved(output):
    """Robust where `±z > ε ‖w‖₁`."""
    model, w, b = linear_model(1, output=output)
    y = Y % 2
    margin = (2 * y - 1) * (X @ w + b)[:, 0] - 0.1 * np.abs(w).sum()
    result = PGDAttack(0.1, bounds=None, steps=12)(model, X, y)
    decided = np.abs(margin) > 1e-4
    np.testing.assert_array_equal(result.robust[decided], margin[decided] > 0)
    assert 0 < result.robust.sum() < result.correct.sum()


@every_objective
def test_no_counterexample_where_there_is_none(objectives):
    """Of four classes PGD may miss the one that is nearest, and never finds what is not there."""
    model, w, b = linear_model(4)
    y = correct_labels(model)
    provable = least_margin(w, b, y, 0.1, bounds=(0.0, 1.0)) > 1e-4
    robust = PGDAttack(0.1, objectives=objectives)(model, X, y).robust
    assert np.all(robust[provable])
    assert np.mean(robust == provable) > 0.9
    assert 0.05 < provable.mean() < 0.95


# Strength


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_worst_of_both_objectives_is_taken(norm):
    """From the same starts the iterates of both are those of each."""
    model = relu_network()
    y = correct_labels(model)
    both, entropy, margin = (
        PGDAttack(0.1, norm=norm, objectives=o, steps=5)(model, X, y).robust
        for o in (("crossentropy", "margin"), "crossentropy", "margin")
    )
    np.testing.assert_array_equal(both, entropy & margin)
    assert 0 < both.sum() < 60


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [({"steps": 2}, {"steps": 8}), ({"restarts": 0}, {"restarts": 2}), ({"restarts": 2}, {"restarts": 5})],
)
def test_more_is_never_weaker(weaker, stronger):
    """For each example: what is tried first is the same."""
    model = relu_network()
    y = correct_labels(model)
    options = {"epsilon": 0.1, "step_size": 0.04, "steps": 3, "restarts": 0, "objectives": "crossentropy"}
    first, second = (PGDAttack(**{**options, **more})(model, X, y) for more in (weaker, stronger))
    assert np.all(second.robust <= first.robust)

    def margin(result):
        logits = model.predict(result.x_adv, verbose=0)
        others = np.where(np.eye(3, dtype=bool)[y], -np.inf, logits)
        return others.max(axis=1) - logits[np.arange(60), y]

    assert np.all(margin(second) >= margin(first) - 1e-6)
    assert np.mean(margin(second) > margin(first) + 1e-4) > 0.1


@pytest.mark.slow
def test_a_larger_epsilon_is_never_weaker_on_average():
    model = relu_network()
    y = correct_labels(model)
    accuracies = [PGDAttack(epsilon, steps=10)(model, X, y).robust.mean() for epsilon in (0.01, 0.03, 0.1, 0.3)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 0.7
    assert accuracies[-1] < 0.3


@pytest.mark.slow
def test_gradients_of_the_softplus_twin_lead_where_those_of_the_model_vanish():
    """Behind a threshold that an attack can cross; the margin that counts is that of the model."""
    inputs = keras.Input((1,))
    z = keras.layers.ReLU()(keras.layers.Rescaling(1.0, offset=-0.05)(inputs))
    model = keras.Model(inputs, keras.ops.concatenate([0.01 + 0 * z, z], axis=1))
    x, y = np.zeros((3, 1), "float32"), np.zeros(3, int)
    options = {"epsilon": 0.1, "restarts": 0}
    assert PGDAttack(**options)(model, x, y).robust.all()  # negative control
    found = PGDAttack(**options, softplus_beta=30.0)(model, x, y)
    assert not found.robust.any()
    np.testing.assert_allclose(found.x_adv, 0.1)
    small = PGDAttack(**{**options, "epsilon": 0.055}, softplus_beta=30.0)(model, x, y)  # the twin would be fooled
    assert small.robust.all()


def test_softplus_beta_must_be_positive():
    with pytest.raises(ValueError, match="`softplus_beta` must be"):
        PGDAttack(0.1, softplus_beta=0.0)


@every_objective
def test_any_iterate_counts(objectives):
    """`z₁ − z₀ = 0.05² − (x − 0.59)²` is positive near 0.59: from 0.5 to 0.6 and back."""
    inputs = keras.Input((1,))
    bump = 10 * (0.05**2 - keras.ops.square(inputs - 0.59))
    model = keras.Model(inputs, keras.ops.concatenate([0 * inputs, bump], axis=1))
    result = PGDAttack(0.3, steps=2, step_size=0.1, restarts=0, objectives=objectives)(model, [[0.5]], [0])
    np.testing.assert_allclose(result.x_adv, [[0.6]])
    np.testing.assert_array_equal(result.correct, [True])
    np.testing.assert_array_equal(result.robust, [False])


@pytest.mark.slow
def test_the_margin_breaks_a_model_that_hides_its_gradient():
    """Logits times 10⁴: the cross-entropy is 0 to float32, and so is its gradient; the decisions are as before."""
    model, hiding = linear_model(1)[0], linear_model(1, scale=1e4)[0]
    y = correct_labels(model)
    options = {"epsilon": 0.15, "steps": 12, "restarts": 0}
    honest = PGDAttack(objectives="crossentropy", **options)(model, X, y)
    entropy = PGDAttack(objectives="crossentropy", **options)(hiding, X, y)
    margin = PGDAttack(objectives="margin", **options)(hiding, X, y)
    assert honest.robust.mean() < 0.8
    assert entropy.robust.mean() > 0.95
    np.testing.assert_array_equal(entropy.x_adv[entropy.robust], X[entropy.robust])  # it did not move
    np.testing.assert_array_equal(margin.robust, honest.robust)
    np.testing.assert_array_equal(PGDAttack(**options)(hiding, X, y).robust, honest.robust)


@pytest.mark.slow
def test_a_softmax_hides_no_gradient():
    """Where it is 1 to float32: it is taken off."""
    (logits, *_), (probabilities, *_) = linear_model(scale=5), linear_model(scale=5, output="softmax")
    y = correct_labels(logits)
    for objectives in OBJECTIVES:
        first, second = (PGDAttack(0.15, objectives=objectives, steps=5)(m, X, y) for m in (logits, probabilities))
        np.testing.assert_allclose(first.x_adv, second.x_adv, atol=1e-6)
        np.testing.assert_array_equal(first.robust, second.robust)


# What a result promises


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("restarts", [0, 2])
def test_perturbed_inputs_are_in_the_ball_and_in_the_box(norm, restarts):
    bounds = (np.zeros(5), np.array([1.0, 1.0, 1.5, 1.0, 1.0]))
    model = relu_network()
    x = np.where(X > 0.8, 1.0, X).astype("float32")
    result = PGDAttack(0.1, norm=norm, bounds=bounds, steps=8, restarts=restarts)(model, x, Y)
    change = np.linalg.norm(result.x_adv - x, ord=None if norm == "l2" else np.inf, axis=1)
    assert np.all(change <= 0.1 + 1e-6)  # rounding of x + ε
    assert np.median(change) > 0.05
    assert np.all((result.x_adv >= 0) & (result.x_adv <= bounds[1]))
    assert result.x_adv[:, 2].max() > 1.01


def test_robust_is_correct_at_x_and_at_x_adv():
    model = relu_network()
    y = correct_labels(model)
    y[:20] = (y[:20] + 1) % 3
    result = PGDAttack(0.1, steps=5)(model, X, y)
    before, after = (model.predict(x, verbose=0).argmax(axis=1) for x in (X, result.x_adv))
    np.testing.assert_array_equal(result.predicted, before)
    np.testing.assert_array_equal(result.correct, np.arange(60) >= 20)
    np.testing.assert_array_equal(result.robust, (before == y) & (after == y))
    assert not np.any(result.robust[:20])
    assert 0 < result.robust.sum() < 40
    np.testing.assert_array_equal(result.x, X)
    np.testing.assert_array_equal(result.y, y)


def test_a_constant_model_is_robust_where_it_is_correct():
    model = dense_model(5)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    result = PGDAttack(0.1, steps=3)(model, X, Y)
    np.testing.assert_array_equal(result.correct, Y == 0)
    np.testing.assert_array_equal(result.robust, Y == 0)


@pytest.mark.parametrize("batch_size", [7, 60, 1000])
@pytest.mark.slow
def test_the_batch_size_changes_memory_alone(batch_size):
    model = relu_network()
    reference = PGDAttack(0.1, steps=4, restarts=0, batch_size=60)(model, X, Y)
    result = PGDAttack(0.1, steps=4, restarts=0, batch_size=batch_size)(model, X, Y)
    np.testing.assert_allclose(result.x_adv, reference.x_adv, atol=1e-6)
    np.testing.assert_array_equal(result.robust, reference.robust)


def test_batches_can_be_had_one_by_one_and_gone_on_with():
    model, attack = relu_network(), PGDAttack(0.1, steps=3, batch_size=25)
    whole, parts = attack(model, X, Y), list(attack.iterate(model, X, Y))
    assert [len(part.x) for part in parts] == [25, 25, 10]
    np.testing.assert_array_equal(PGDResult.concatenate(parts).x_adv, whole.x_adv)
    (rest,) = attack.iterate(model, X, Y, first=50)
    np.testing.assert_array_equal(rest.x_adv, whole.x_adv[50:])


class Traced(keras.layers.Layer):
    """Counts how often it is traced."""

    traces = 0

    def call(self, x):
        Traced.traces += tf.inside_function()
        return x


@pytest.mark.slow
def test_an_attack_is_traced_once_and_follows_the_weights():
    model = keras.Sequential([keras.Input((5,)), Traced(), *dense_model(5).layers])
    attack = PGDAttack(0.1, steps=3, batch_size=25)
    first = attack(model, X, Y)
    traces = Traced.traces
    assert traces > 0
    np.testing.assert_array_equal(attack(model, X, Y).x_adv, first.x_adv)
    model.set_weights([w[::-1] for w in model.get_weights()])
    after = attack(model, X, Y)
    assert Traced.traces == traces
    assert np.abs(after.x_adv - first.x_adv).max() > 0.01
    np.testing.assert_array_equal(after.x_adv, PGDAttack(0.1, steps=3, batch_size=25)(model, X, Y).x_adv)
    assert Traced.traces > traces  # negative control


# Any classifier, any label


@pytest.mark.slow
def test_layouts_of_labels():
    model = relu_network()
    reference = PGDAttack(0.1, steps=3)(model, X, Y)
    for y in (Y[:, np.newaxis], np.eye(3)[Y], tf.constant(Y), list(Y)):
        result = PGDAttack(0.1, steps=3)(model, X, y)
        np.testing.assert_array_equal(result.x_adv, reference.x_adv)
        np.testing.assert_array_equal(result.y, Y)


@pytest.mark.slow
def test_a_wrapped_model_is_attacked_through_its_base_model():
    model = relu_network()
    results = [PGDAttack(0.1, steps=3)(m, X, Y) for m in (model, wrapped(base_model=model))]
    np.testing.assert_array_equal(results[0].x_adv, results[1].x_adv)


class Hidden(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(64), keras.layers.Dense(3)

    def call(self, x):
        return self.out(tf.nn.relu(self.hidden(x)))


@pytest.mark.slow
def test_a_subclassed_model_needs_no_twin():
    model, hidden = relu_network(), Hidden()
    hidden(X)
    hidden.set_weights(model.get_weights())
    results = [PGDAttack(0.1, steps=3)(m, X, Y) for m in (model, hidden)]
    np.testing.assert_allclose(results[0].x_adv, results[1].x_adv, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(precision):
    """As strong as in float32, on examples that are decided to the precision of the logits."""
    reference, w, b = linear_model()
    model = keras.Sequential([keras.Input((5,), dtype="float32"), keras.layers.Dense(2, dtype=precision)])
    model.set_weights(reference.get_weights())
    y = correct_labels(reference)
    decided = np.abs(least_margin(w, b, y, 0.1, bounds=(0.0, 1.0))) > 0.05
    first, second = (PGDAttack(0.1, steps=12)(m, X, y).robust[decided] for m in (reference, model))
    np.testing.assert_array_equal(first, second)
    assert decided.mean() > 0.8


# Arguments


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.05},
        {"norm": "l2"},
        {"bounds": (-1.0, 2.0)},
        {"steps": 6},
        {"step_size": 0.1},
        {"objectives": "margin"},
        {"restarts": 3},
        {"restarts": 1, "seed": 1},
    ],
)
@pytest.mark.slow
def test_every_argument_matters(options):
    base = {"epsilon": 0.2, "step_size": 0.05, "steps": 3, "restarts": 1, "objectives": "crossentropy"}
    first, second = (PGDAttack(**{**base, **more})(relu_network(), X, Y) for more in ({}, options))
    assert np.abs(first.x_adv - second.x_adv).max() > 1e-3


def test_the_default_step_size_is_a_tenth_of_epsilon():
    assert PGDAttack(0.3).step_size == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epsilon": -1}, ValueError, "`epsilon` must be a positive float. Received: epsilon=-1"),
        ({"norm": "l3"}, ValueError, r"`norm` must be one of \['linf', 'l2', 'l1', 'l0'\]. Received: norm='l3'"),
        ({"bounds": (1, 0)}, ValueError, r"`bounds` must be None, or a pair .*Received: bounds=\(1, 0\)"),
        ({"steps": 0}, ValueError, "`steps` must be a positive integer. Received: steps=0"),
        ({"step_size": -0.1}, ValueError, "`step_size` must be a positive float. Received: step_size=-0.1"),
        (
            {"objectives": "loss"},
            ValueError,
            r"`objectives` must be one of \['crossentropy', 'margin'\]. Received: .*'loss'",
        ),
        ({"objectives": ("margin", "cw")}, ValueError, "`objectives` must be one of .*Received: objectives='cw'"),
        ({"objectives": ()}, ValueError, r"`objectives` must be one or more of .*Received: objectives=\(\)"),
        ({"restarts": -1}, ValueError, "`restarts` must be an integer >= 0. Received: restarts=-1"),
        ({"restarts": 1.0}, ValueError, "`restarts` must be an integer >= 0. Received: restarts=1.0"),
        ({"seed": "0"}, TypeError, "`seed` must be an integer. Received: seed='0'"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a positive integer. Received: batch_size=0"),
        ({"jit_compile": None}, ValueError, r"`jit_compile` must be one of \[True, False, 'auto'\]. Received"),
    ],
)
def test_constructors_validate(options, error, message):
    with pytest.raises(error, match=message):
        PGDAttack(**{"epsilon": 0.1, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x": X + 1}, ValueError, r"`x` must lie within `bounds`=\(0.0, 1.0\). Received: values from 1"),
        ({"x": X[0]}, ValueError, r"`x` must have the shape \(n, 5\)"),
        ({"y": None}, TypeError, "`y` must be an array of numbers"),
        ({"y": Y[:3]}, ValueError, "`y` must hold one label per example, 60. Received: 3 labels"),
        ({"y": Y + 1}, ValueError, "`y` must be class indices from 0 to 2"),
        ({"model": None}, TypeError, "must be a Keras 3 model"),
    ],
)
def test_calls_validate(options, error, message):
    with pytest.raises(error, match=message):
        PGDAttack(0.1)(**{"model": dense_model(5), "x": X, "y": Y, **options})


# XLA, and another library


@pytest.mark.slow
def test_xla_gives_the_same_numbers():
    model = relu_network()
    results = [PGDAttack(0.1, steps=4, jit_compile=jit)(model, X, Y) for jit in (True, False)]
    np.testing.assert_allclose(results[0].x_adv, results[1].x_adv, atol=1e-6)
    np.testing.assert_array_equal(results[0].robust, results[1].robust)


@pytest.fixture(scope="module")
def trained():
    """A small ReLU network, and 200 test images."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 5, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(32, "relu"),
            layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    (x_train, y_train), (x, y) = datasets.load("fashion_mnist_mini")
    model.fit(x_train, y_train, epochs=4, batch_size=64, verbose=0)
    return model, x[:200], y[:200]


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.02), ("linf", 0.05), ("l2", 0.5), ("l2", 1.0)])
def test_at_least_as_strong_as_the_pgd_of_art(trained, norm, epsilon):
    """The Adversarial Robustness Toolbox, on the same model, ε, steps, step size and start.

    Its cross-entropy is ours, and so is its path; it keeps the last iterate, where ours keeps the worst.
    """
    pytest.importorskip("art.attacks.evasion", reason="adversarial-robustness-toolbox is not installed")
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    model, x, y = trained
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs = TensorFlowV2Classifier(model, 10, (28, 28, 1), loss_object=loss, clip_values=(0, 1))
    theirs = ProjectedGradientDescent(
        theirs,
        norm={"linf": np.inf, "l2": 2}[norm],
        eps=epsilon,
        eps_step=epsilon / 5,
        max_iter=10,
        batch_size=200,
        verbose=False,
    ).generate(x, y)
    their_robust = model.predict(theirs, verbose=0).argmax(axis=1) == y
    natural = model.predict(x, verbose=0).argmax(axis=1) == y
    assert 0 < their_robust.sum() < natural.sum() - 10  # theirs is an attack

    def robust(objectives):
        attack = PGDAttack(epsilon, norm=norm, steps=10, step_size=epsilon / 5, objectives=objectives, restarts=0)
        return attack(model, x, y).robust

    entropy, both = robust("crossentropy"), robust(("crossentropy", "margin"))
    assert entropy.sum() <= their_robust.sum()
    assert both.sum() <= entropy.sum()
    assert np.mean(entropy == their_robust) > 0.98  # the same attack, to the last iterate or the worst
