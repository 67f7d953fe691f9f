"""Recipes: the paper's settings cell by cell, the fast ones, and `wrap` with them."""

import keras
import numpy as np
import pytest

import keras_rar
from keras_rar.paper import recipes

# Chen et al. 2019: epsilon, steps, step_size, attack_m, factor of IG-NORM, beta of IG-SUM-NORM, upper bound
PAPER = {
    "mnist": (0.3, 40, 0.01, 10, 1.0, 0.1, 1.0),
    "fashion_mnist": (0.1, 20, 0.01, 10, 1.0, 0.1, 1.0),
    "gtsrb": (8.0, 7, 2.0, 5, 1.0, 1.0, 255.0),
    "oxford_flower17": (8.0, 7, 2.0, 5, 0.1, 0.1, 255.0),
}


def network():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


@pytest.mark.parametrize("dataset", PAPER)
@pytest.mark.parametrize("method", ["natural", "madry", "ig_norm", "ig_sum_norm"])
def test_the_papers_settings(dataset, method):
    epsilon, steps, step_size, attack_m, factor, beta, high = PAPER[dataset]
    regularizer = keras_rar.wrap(network(), method, recipe="paper", dataset=dataset).regularizer
    assert (regularizer.epsilon, regularizer.steps, regularizer.step_size) == (epsilon, steps, step_size)
    assert (regularizer.rule, regularizer.m, regularizer.attack_m) == ("right", 50, attack_m)
    assert (regularizer.norm, regularizer.random_start) == ("linf", True)
    np.testing.assert_array_equal(regularizer.bounds, (0.0, high))
    assert getattr(regularizer, "factor", factor) == factor
    assert getattr(regularizer, "beta", beta) == beta


def test_the_inner_nodes_of_the_paper_are_every_fifth_or_tenth_of_the_outer():
    for dataset, (_, _, _, attack_m, *_) in PAPER.items():
        regularizer = keras_rar.wrap(network(), recipe="paper", dataset=dataset).regularizer
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
    regularizer = keras_rar.wrap(network(), recipe="paper", dataset="mnist", steps=2, epsilon=0.2).regularizer
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


def test_options_cannot_change_the_table():
    recipes.options("paper", "madry", "mnist")["steps"] = 1
    assert recipes.options("paper", "madry", "mnist")["steps"] == 40
