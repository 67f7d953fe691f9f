"""Several sigmoids are labels that do not exclude each other, and never a softmax."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model

import keras_rar
from keras_rar.attacks import PGDAttack, TopKAttack
from keras_rar.core import label_sets
from keras_rar.networks.classifier import OBJECTIVES, TARGETS, Classifier

X, Y = batch(8)
ROWS = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]] * 2)
ON_LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)


def network(output="sigmoid", classes=3):
    model = dense_model(classes=classes, output=output)
    model.set_weights([3 * w for w in model.get_weights()])
    return model


def sigma(z):
    return 1 / (1 + np.exp(-z))


# Sets of labels as integers


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 62])
def test_a_set_is_known_by_its_integer(classes):
    rows = np.random.default_rng(0).integers(0, 2, (40, classes))
    rows = np.concatenate([rows, np.eye(classes, dtype=int), np.zeros((1, classes), int), np.ones((1, classes), int)])
    codes = label_sets.code(rows).numpy()
    np.testing.assert_array_equal(label_sets.members(codes, classes), rows == 1)
    assert len(np.unique(codes)) == len(np.unique(rows, axis=0))
    assert codes.min() >= 0
    np.testing.assert_array_equal(label_sets.code(np.eye(classes)), np.arange(classes))
    assert [label_sets.indices(code) for code in codes] == [list(np.flatnonzero(row)) for row in rows]


def test_large_sets_have_integers_of_their_own():
    rows = np.random.default_rng(0).integers(0, 2, (500, 300))
    codes = label_sets.code(rows).numpy()
    assert len(np.unique(codes)) == 500
    assert codes.min() >= label_sets.FIRST
    logits = np.random.default_rng(1).normal(size=(500, 300))
    np.testing.assert_array_equal(label_sets.leading(codes, logits), logits.argmax(axis=1))


# Which models are multi-label


def compiled_with(loss, output=None):
    model = network(output)
    model.compile("sgd", loss)
    return model


def test_several_sigmoids_or_a_binary_loss_of_logits_make_several_labels():
    for model in (network(), network(tf.nn.sigmoid), compiled_with(ON_LOGITS), compiled_with([ON_LOGITS])):
        assert Classifier(model).multilabel
    trained = keras_rar.wrap(network(None))
    trained.compile("sgd", ON_LOGITS)
    assert Classifier(trained).multilabel
    for model in (network(None), network("softmax"), compiled_with(ON_LOGITS, "softmax"), network("sigmoid", 1)):
        assert not Classifier(model).multilabel


@pytest.mark.slow
def test_another_loss_makes_another_model():
    """What was compiled for the same network as a softmax is not used again."""
    model = network(None)
    before = [keras_rar.saliency_map(model, X, Y, target="probability", m=4, normalize=False) for _ in range(2)]
    attack = PGDAttack(0.1, steps=2)
    attack(model, X, Y)
    model.compile("sgd", ON_LOGITS)
    after = keras_rar.saliency_map(model, X, Y, target="probability", m=4, normalize=False)
    np.testing.assert_array_equal(*before)
    assert np.abs(after - before[0]).max() > 0.01
    np.testing.assert_array_equal(attack(model, X, ROWS).correct, np.all((model(X) > 0) == ROWS, axis=1))


# Scores


def test_targets_are_those_of_the_label_itself():
    """Known: `z_y`, `σ(z_y)` and `−log σ(z_y)`, whatever the other outputs are."""
    classifier = Classifier(network())
    z = classifier.logits(tf.constant(X)).numpy()[np.arange(8), Y]
    expected = {"logit": z, "probability": sigma(z), "loss": -np.log(sigma(z))}
    for name, values in expected.items():
        np.testing.assert_allclose(classifier.score(Y, TARGETS[name])(X), values, rtol=1e-5)


def test_objectives_are_of_all_labels():
    """Known: binary cross-entropy as Keras computes it, summed; and the least of the signed logits."""
    model = network()
    classifier = Classifier(model)
    codes, z = classifier.check_labels(ROWS, 8), classifier.logits(tf.constant(X)).numpy()
    loss = 3 * ON_LOGITS.call(tf.constant(ROWS, tf.float32), tf.constant(z))
    np.testing.assert_allclose(classifier.score(codes, OBJECTIVES["crossentropy"])(X), loss, rtol=1e-5)
    margin = classifier.score(codes, OBJECTIVES["margin"])(X)
    np.testing.assert_allclose(margin, -np.min(np.where(ROWS, z, -z), axis=1), rtol=1e-5)
    np.testing.assert_array_equal(margin < 0, classifier.predict(X) == codes)


def test_ig_of_the_probability_is_complete():
    model = network()
    explained = keras_rar.saliency_map(model, X, Y, target="probability", rule="midpoint", m=400, normalize=False)
    change = (model(X) - model(0 * X)).numpy()[np.arange(8), Y]
    np.testing.assert_allclose(explained.sum(axis=1), change, atol=1e-3)
    assert np.abs(change).max() > 0.1


def test_of_a_set_the_label_of_the_highest_score_is_explained():
    model = network()
    z = Classifier(model).logits(tf.constant(X)).numpy()
    chosen = np.where(ROWS.any(axis=1, keepdims=True), np.where(ROWS, z, -np.inf), z).argmax(axis=1)
    assert len(set(chosen)) > 1
    options = {"m": 4, "normalize": False}
    np.testing.assert_array_equal(
        keras_rar.saliency_map(model, X, ROWS, **options), keras_rar.saliency_map(model, X, chosen, **options)
    )
    np.testing.assert_array_equal(
        keras_rar.saliency_map(model, X, **options), keras_rar.saliency_map(model, X, z.argmax(axis=1), **options)
    )


# Labels


@pytest.mark.parametrize("y", [Y, Y[:, None], np.eye(3)[Y], np.eye(3, dtype=bool)[Y], list(Y)])
def test_a_class_is_the_set_of_this_one_label(y):
    np.testing.assert_array_equal(Classifier(network()).check_labels(y, 8), Y)


@pytest.mark.parametrize("y", [np.full((8, 3), 0.5), 2 * np.eye(3)[Y], np.full(8, 3), np.full((8, 2), 1)])
def test_other_labels_are_refused(y):
    with pytest.raises(ValueError, match="`y` must "):
        PGDAttack(0.1)(network(), X, y)


def test_rows_of_several_labels_are_refused_where_they_are_too_many():
    model = network(classes=63)
    rows = np.zeros((8, 63))
    rows[:, :2] = 1
    with pytest.raises(ValueError, match=r"`y` must hold one label per row where there are more than 62\. Received"):
        keras_rar.saliency_map(model, X, rows)
    assert keras_rar.saliency_map(model, X, None, "gradient").shape == (8, 4)


# Attacks


def test_an_example_is_robust_where_all_its_labels_stay_right():
    """A linear network of two outputs, `z = (2x₀ − 1, 2x₁ − 1)`: a step of ε changes the one that is nearer to 0."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "sigmoid")])
    model.set_weights([2 * np.eye(2), -np.ones(2)])
    x = np.array([[0.9, 0.9], [0.9, 0.55], [0.2, 0.1], [0.45, 0.9], [0.9, 0.1]], "float32")
    y = np.array([[1, 1], [1, 1], [0, 0], [0, 1], [1, 1]])
    found = PGDAttack(0.1, steps=10)(model, x, y)
    np.testing.assert_array_equal(found.correct, [True, True, True, True, False])
    np.testing.assert_array_equal(found.robust, [True, False, True, False, False])
    single = PGDAttack(0.1, steps=10)(model, x, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(single.correct, [False, False, False, True, True])


def test_the_set_that_is_predicted_stays_while_maps_are_attacked():
    model = network()
    found = TopKAttack(1, 0.3, steps=5, m=4)(model, X)
    assert (found.iteration > 0).any()
    np.testing.assert_array_equal(model(found.x_adv) > 0.5, model(X) > 0.5)


def test_a_multi_label_model_is_evaluated_from_end_to_end(tmp_path):
    model = network()
    rows = (model(X) > 0.5).numpy().astype(int)
    rows[0] = 1 - rows[0]
    options = {"epsilon": 0.1, "steps": 2, "m": 2, "progress": False}
    report = keras_rar.evaluate_robustness(model, X, rows, path=tmp_path / "kept.npz", **options)
    np.testing.assert_array_equal(report.per_example["correct"], np.arange(8) > 0)
    again = keras_rar.evaluate_robustness(model, X, rows, path=tmp_path / "kept.npz", **options)
    np.testing.assert_array_equal(again.per_example["predicted"], report.per_example["predicted"])
    titles = [ax.get_title() for ax in report.plot(class_names=["cat", "dog", "owl"]).axes]
    assert any(name in title for name in ("cat", "dog", "owl", "no label") for title in titles)


@pytest.mark.slow
def test_a_multi_label_model_is_trained_and_exported(tmp_path):
    model = keras_rar.wrap(network(), "ig_sum_norm", steps=1, m=2, attack_m=2, seed=0)
    model.compile("sgd", "binary_crossentropy")
    assert np.isfinite(model.fit(X, ROWS, verbose=0).history["loss"]).all()
    keras_rar.export_saved_model(model, tmp_path / "served", m=2)
    served = tf.saved_model.load(tmp_path / "served")
    expected = keras_rar.saliency_map(model, X, m=2)
    np.testing.assert_allclose(served.attribute(tf.constant(X)), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(served.serve(tf.constant(X)), model(X), rtol=1e-5)


def test_methods_of_classes_that_exclude_each_other_are_refused():
    """By `compile`, also in a sum, and whether the sigmoids are in the network or in the loss; others are not."""
    of_classes = {name for name, method in keras_rar.METHODS.items() if method.exclusive}
    assert of_classes == {"trades", "mart", "art"}
    both = keras_rar.MadryRegularizer() + 0.5 * keras_rar.TRADESRegularizer()
    for method in (*sorted(of_classes), both):
        for output, loss in (("sigmoid", "binary_crossentropy"), (None, ON_LOGITS)):
            with pytest.raises(ValueError, match=r"labels that do not exclude each other.*TRADES|MART|ART"):
                keras_rar.wrap(network(output), method).compile("sgd", loss)
    keras_rar.wrap(network(), "madry").compile("sgd", "binary_crossentropy")
    keras_rar.wrap(network(classes=1), "trades").compile("sgd", "binary_crossentropy")  # one sigmoid is two classes
    keras_rar.wrap(network(None), "trades").compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))


def test_a_baseline_is_neutral_where_no_label_is_likelier_than_not():
    model = dense_model(output="sigmoid")
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert keras_rar.baseline_report(model) == (0, 0.5, 1.0)
    model.layers[-1].bias.assign([100.0, 0.0, -100.0])
    assert keras_rar.baseline_report(model) == (0, 1.0, round(1 / 3, 6))
