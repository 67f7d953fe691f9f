"""Recipes: the paper's settings cell by cell, the fast ones, and `wrap` with them."""

import dataclasses
import inspect
import typing

import keras
import numpy as np
import pytest

import keras_rar
from keras_rar.methods import table
from keras_rar.paper import published_training
from keras_rar.training import recipes

# Chen et al. 2019: epsilon, steps, step_size, attack_m, factor of IG-NORM, beta of IG-SUM-NORM, upper bound
PAPER = {
    "mnist": (0.3, 40, 0.01, 10, 1.0, 0.1, 1.0),
    "fashion_mnist": (0.1, 20, 0.01, 10, 1.0, 0.1, 1.0),
    "gtsrb": (8.0, 7, 2.0, 5, 1.0, 1.0, 255.0),
    "oxford_flower17": (8.0, 7, 2.0, 5, 0.1, 0.1, 255.0),
}


def network():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


SETTINGS = ("epsilon", "steps", "step_size", "attack_m", "factor", "beta", "bounds")


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("dataset", PAPER)
def test_a_setting_of_the_paper(dataset, setting):
    expected = dict(zip(SETTINGS, PAPER[dataset], strict=True))[setting]
    for method in {"factor": ["ig_norm"], "beta": ["ig_sum_norm"]}.get(setting, recipes.PAPER[dataset]):
        regularizer = keras_rar.wrap(network(), method, recipe="paper", dataset=dataset).regularizer
        found = getattr(regularizer, setting)
        np.testing.assert_array_equal(found, (0.0, expected) if setting == "bounds" else expected)


@pytest.mark.parametrize("dataset", PAPER)
@pytest.mark.parametrize("method", ["natural", "madry", "ig_norm", "ig_sum_norm"])
def test_what_all_of_the_papers_settings_have(dataset, method):
    regularizer = keras_rar.wrap(network(), method, recipe="paper", dataset=dataset).regularizer
    assert (regularizer.rule, regularizer.m) == ("right", 50)
    assert (regularizer.norm, regularizer.random_start) == ("linf", True)


def test_the_inner_nodes_of_the_paper_are_every_fifth_or_tenth_of_the_outer():
    for dataset, (_, _, _, attack_m, *_) in PAPER.items():
        regularizer = keras_rar.wrap(network(), "ig_sum_norm", recipe="paper", dataset=dataset).regularizer
        every = 50 // attack_m
        np.testing.assert_allclose(regularizer.attack_rule.nodes, regularizer.training_rule.nodes[every - 1 :: every])


@pytest.mark.parametrize("method", keras_rar.METHODS)
def test_every_method_has_a_fast_recipe_that_costs_less(method):
    def passes(regularizer):
        ascended = {"natural": 0, "madry": 2, "igr": 2}.get(method, 4 * regularizer.attack_m + 2)
        return regularizer.steps * ascended + 6 * regularizer.m

    fast = keras_rar.wrap(network(), method, recipe="fast").regularizer
    paper = keras_rar.wrap(network(), "ig_sum_norm", recipe="paper", dataset="fashion_mnist").regularizer
    assert passes(fast) < passes(paper) / 3


@pytest.mark.parametrize("method", keras_rar.METHODS)
def test_the_fast_recipe_is_the_default(method):
    fast, default = (keras_rar.wrap(network(), method, **options) for options in ({"recipe": "fast"}, {}))
    assert fast.regularizer.get_config() == default.regularizer.get_config()
    assert default.regularizer.steps * default.regularizer.step_size == pytest.approx(2.5 * default.regularizer.epsilon)


def test_the_fast_recipe_takes_the_ball_of_the_data_set_and_steps_across_it():
    regularizer = keras_rar.wrap(network(), "igr", recipe="fast", dataset="gtsrb").regularizer
    assert (regularizer.epsilon, *regularizer.bounds) == (8.0, 0.0, 255.0)
    assert regularizer.steps * regularizer.step_size >= regularizer.epsilon


def test_an_option_goes_before_the_recipe():
    regularizer = keras_rar.wrap(
        network(), "ig_sum_norm", recipe="paper", dataset="mnist", steps=2, epsilon=0.2
    ).regularizer
    assert (regularizer.steps, regularizer.epsilon, regularizer.m) == (2, 0.2, 50)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"recipe": "slow"}, ValueError, r"`recipe` must be one of \['fast', 'paper'\]"),
        ({"recipe": "paper"}, ValueError, "`dataset` must be one of"),
        ({"recipe": "paper", "dataset": "imagenet"}, ValueError, "`dataset` must be one of"),
        ({"recipe": "fast", "dataset": "imagenet"}, ValueError, "`dataset` must be one of"),
        ({"dataset": "mnist"}, ValueError, "`dataset` must be None without a recipe"),
        ({"recipe": "paper", "dataset": "mnist", "method": "igr"}, ValueError, "`method` must be one of"),
        ({"recipe": "fast", "method": keras_rar.MadryRegularizer()}, TypeError, "there are no other options"),
    ],
)
def test_a_recipe_that_does_not_exist_is_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        keras_rar.wrap(network(), **arguments)


def test_the_default_is_the_recommended_method():
    assert type(keras_rar.wrap(keras.Sequential([keras.Input((16,)), keras.layers.Dense(3)])).regularizer) is (
        keras_rar.IGTopKRegularizer
    )


def test_editors_know_every_method_and_every_option():
    assert typing.get_args(table.Method) == tuple(keras_rar.METHODS)
    classes = [keras_rar.AbstractAttributionRegularizer, *keras_rar.METHODS.values()]
    names = {name for cls in classes for name in inspect.signature(cls.__init__).parameters}
    assert set(table.Options.__annotations__) == names - {"self", "kwargs"}


def test_options_cannot_change_the_table():
    recipes.options("paper", "madry", "mnist")["steps"] = 1
    assert recipes.options("paper", "madry", "mnist")["steps"] == 40


# Chen et al. 2019: batch size, updates, learning rates, momentum, and the weight decay of the authors' objective, which
# is a sum over the batch where `summed`.
TRAINING = {
    ("mnist", "natural"): (50, 25_000, (1e-4,), None, 0.0, True),
    ("mnist", "madry"): (50, 100_000, (1e-4,), None, 0.0, True),
    ("mnist", "ig_norm"): (50, 100_000, (1e-4,), None, 0.0, True),
    ("mnist", "ig_sum_norm"): (50, 100_000, (1e-4,), None, 0.0, True),
    ("fashion_mnist", "natural"): (50, 25_000, (1e-4,), None, 0.0, True),
    ("fashion_mnist", "madry"): (50, 100_000, (1e-4,), None, 0.0, True),
    ("fashion_mnist", "ig_norm"): (50, 100_000, (1e-4,), None, 0.0, True),
    ("fashion_mnist", "ig_sum_norm"): (50, 100_000, (1e-4,), None, 0.0, True),
    ("gtsrb", "natural"): (64, 70_000, (1e-3, 1e-2, 1e-3), 0.9, 2e-4, False),
    ("gtsrb", "madry"): (64, 70_000, (1e-3, 1e-2, 1e-3), 0.9, 2e-4, False),
    ("gtsrb", "ig_norm"): (64, 70_000, (1e-3, 1e-2, 1e-3), 0.9, 2e-4, True),
    ("gtsrb", "ig_sum_norm"): (64, 70_000, (1e-3, 1e-2, 1e-3), 0.9, 2e-4, True),
    ("oxford_flower17", "natural"): (16, 70_000, (1e-3, 1e-2, 1e-3), 0.9, 2e-4, False),
    ("oxford_flower17", "madry"): (16, 70_000, (1e-3, 1e-2, 1e-3), 0.9, 2e-4, False),
    ("oxford_flower17", "ig_norm"): (16, 70_000, (1e-4, 1e-3, 1e-4), 0.9, 2e-4, True),
    ("oxford_flower17", "ig_sum_norm"): (16, 70_000, (1e-4, 1e-3, 1e-4), 0.9, 2e-4, True),
}


def trained(optimizer, weight_decay, summed, updates=3):
    """The weights that an optimizer makes of a least-squares problem, of which the mean or the sum is minimised."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 3)).astype("float32"), rng.normal(size=(16, 1)).astype("float32")
    w = keras.Variable(np.ones((3, 1), "float32"))
    optimizer.build([w])
    for _ in range(updates):
        gradient = 2 * x.T @ (x @ w.numpy() - y) / (1 if summed else len(x)) + weight_decay * w.numpy()
        optimizer.apply([gradient], [w])
    return w.numpy()


@pytest.mark.parametrize("setting", ["batch_size", "updates", "rates", "momentum", "weight_decay"])
@pytest.mark.parametrize(("dataset", "method"), TRAINING)
def test_a_setting_of_the_papers_training(dataset, method, setting):
    """Rate and decay as the authors have them, of a sum over the batch or a mean."""
    names = ("batch_size", "updates", "rates", "momentum", "weight_decay", "summed")
    cells = dict(zip(names, TRAINING[dataset, method], strict=True))
    found = published_training.training(method, dataset)
    scale = cells["batch_size"] if cells["summed"] and cells["momentum"] else 1
    theirs = {"rates": np.divide(found.rates, scale), "weight_decay": found.weight_decay * scale}
    of_ours = theirs.get(setting, getattr(found, setting))
    assert of_ours == pytest.approx(cells[setting]) if setting in theirs else of_ours == cells[setting]


@pytest.mark.parametrize(("dataset", "method"), TRAINING)
def test_the_optimizer_of_the_papers_training(dataset, method):
    batch_size, _, _, momentum, *_ = TRAINING[dataset, method]
    found = published_training.training(method, dataset)
    optimizer = found.optimizer()
    if momentum is None:
        assert isinstance(optimizer, keras.optimizers.Adam)
        assert optimizer.epsilon * batch_size == pytest.approx(1e-8)
    else:
        assert found.until == (500, 60_000)
        w = keras.Variable([1.0])
        optimizer.build([w])
        for update, rate in zip((0, 501, 60_001), found.rates, strict=True):
            optimizer.iterations.assign(update)
            assert float(optimizer.learning_rate) == pytest.approx(rate)


def test_the_momentum_is_that_of_tensorflow_1():
    """By hand: the velocity is multiplied by the rate of now, also behind a change of it."""
    settings = published_training.Training(16, 6, (1e-2, 1e-3), (3,), 0.9)
    gradients = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    w, velocity, weights = np.ones(3, "float32"), 0.0, keras.Variable(np.ones(3, "float32"))
    optimizer = settings.optimizer()
    optimizer.build([weights])
    for update, gradient in enumerate(gradients):
        velocity = 0.9 * velocity + gradient
        w = w - (1e-2 if update <= 3 else 1e-3) * velocity
        optimizer.apply([gradient], [weights])
    np.testing.assert_allclose(weights.numpy(), w, rtol=1e-5)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is published_training.Momentum


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_of_a_sum_and_of_a_mean_the_same_weights_are_trained(momentum):
    """What the conversion is for: the authors' optimizer on the sum, ours on the mean."""
    rate, decay, n = 1e-3, 2e-2 if momentum else 0.0, 16
    theirs = published_training.Training(n, 3, (rate,), (), momentum, 1e-8, decay)
    scale = n if momentum else 1
    ours = published_training.Training(n, 3, (rate * scale,), (), momentum, 1e-8 / n, decay / n)
    if momentum:
        theirs, ours = (dataclasses.replace(t, rates=t.rates * 2, until=(2,)) for t in (theirs, ours))
    expected = trained(theirs.optimizer(), theirs.weight_decay, summed=True)
    np.testing.assert_allclose(trained(ours.optimizer(), ours.weight_decay, summed=False), expected, rtol=1e-5)
    if momentum:  # Adam does not see the difference
        assert np.abs(trained(theirs.optimizer(), decay, summed=False) - expected).max() > 1e-3
