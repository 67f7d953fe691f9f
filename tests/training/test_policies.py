"""The policies every method keeps: what training may change, what it refuses, and in which precision it holds."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSIFY_X, START_AT_RANDOM, WITHOUT_INNER_MAXIMUM, batch, dense_model, some_slow, wrapped

import keras_rar
from keras_rar.core import gradients

METHODS = sorted(keras_rar.METHODS)
PACKAGE = Path(keras_rar.__file__).parent
SOURCES = {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {path.removesuffix(".py").removesuffix("__init__").strip(os.sep).replace(os.sep, ".") for path in SOURCES} - {
    ""
}
X, Y = batch()
FAST = {"natural", "madry", "ig_sum_norm", "ig_topk", "trades"}  # one of each kind


def noisy_model():
    """Batch normalisation and dropout: what may not move, and what may not be felt, in the inner maximum."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Activation("tanh"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )


def everything(model):
    """A copy of every variable: weights, statistics, seeds, optimizer, metrics, counts."""
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    variables += [layer.seed_generator.state for layer in model.base_model.layers if hasattr(layer, "seed_generator")]
    variables += [*model.base_model.variables, model.seed_generator.state]
    return {(variable.path, id(variable)): variable.numpy() for variable in variables}


def changed(before, after):
    return {path for (path, key), value in before.items() if not np.array_equal(value, after[path, key])}


# The inner maximum is pure


@pytest.fixture(scope="module", params=["compiled", "eager"])
def noisy(request):
    keras.utils.set_random_seed(0)
    model = wrapped(
        base_model=noisy_model(),
        optimizer="adam",
        step_size=0.01,  # too small to reach the end of the ball: x* depends on the random start
        compile={"metrics": ["accuracy"], "run_eagerly": request.param == "eager"},
    )
    model.fit(X, Y, verbose=0)
    return model


@pytest.mark.parametrize("function", ["perturb", "attributions", "objective"])
def test_perturb_attributions_and_objective_change_no_variable(function, noisy):
    before = everything(noisy)
    noisy.perturb(X, Y, seed=1) if function == "perturb" else getattr(noisy, function)(X, X[::-1], Y)
    assert changed(before, everything(noisy)) == set()


def test_perturb_without_a_seed_draws_from_the_model_s_generator_alone(noisy):
    before = everything(noisy)
    noisy.perturb(X, Y)
    assert changed(before, everything(noisy)) == {noisy.seed_generator.state.path}


def test_a_training_step_changes_every_kind_of_variable(noisy):
    """Negative control: the comparison would see it."""
    before = everything(noisy)
    noisy.train_on_batch(X, Y)
    paths = " ".join(changed(before, everything(noisy)))
    for name in ("kernel", "bias", "gamma", "moving_mean", "moving_variance", "seed_generator_state", "adam"):
        assert name in paths


def test_perturb_is_determined_by_its_seed(noisy):
    first = noisy.perturb(X, Y, seed=1)
    np.testing.assert_array_equal(noisy.perturb(X, Y, seed=1), first)
    assert not np.array_equal(noisy.perturb(X, Y, seed=2), first)
    assert not np.array_equal(noisy.perturb(X, Y), noisy.perturb(X, Y))


def test_attributions_are_of_the_network_without_dropout():
    noisy, plain = noisy_model(), noisy_model()
    assert not np.allclose(noisy(X, training=True), noisy(X, training=True), atol=0.01)  # it would be felt
    plain.set_weights(noisy.get_weights())
    for layer in plain.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    models = [wrapped(base_model=base_model, random_start=False) for base_model in (noisy, plain)]
    for function, *arguments in (("attributions", X, X[::-1], Y), ("objective", X, X[::-1], Y), ("perturb", X, Y)):
        first, second = (getattr(model, function)(*arguments) for model in models)
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)  # rounding


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", some_slow([name for name in METHODS if name not in WITHOUT_INNER_MAXIMUM], FAST))
def test_x_star_is_in_the_ball_and_in_the_box(method, norm):
    bounds = (np.zeros(4), np.array([1.0, 1.0, 2.0, 3.0]))
    x = np.float32([0.0, 1.0, 0.5, 3.0]) * np.ones((8, 1), "float32")  # at the corner of the box
    x_star = wrapped(method, norm=norm, bounds=bounds, epsilon=0.2, step_size=0.3).perturb(x, Y).numpy()
    distance = np.linalg.norm(x_star - x, ord=np.inf if norm == "linf" else None, axis=1)
    assert np.all(distance <= 0.2 + 1e-6)  # rounding of x + ε
    assert np.all(distance > 0.05)
    assert np.all((x_star >= bounds[0]) & (x_star <= bounds[1].astype("float32")))


def test_x_star_carries_no_gradient(noisy):
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(noisy.perturb(x, Y, seed=1))
    assert all(gradient is None for gradient in tape.gradient(total, [x, *noisy.trainable_variables]))


@pytest.mark.parametrize("method", sorted(WITHOUT_INNER_MAXIMUM))
def test_a_method_of_x_alone_has_no_inner_maximum(method):
    np.testing.assert_array_equal(wrapped(method).perturb(X, Y), X)


# Batch statistics


@pytest.mark.parametrize("method", some_slow(METHODS, FAST))
def test_batch_statistics_move_once_a_step_on_the_classified_batch(method):
    """On x where the classification term is ℓ(x); on x* for the others."""
    options = {} if method in START_AT_RANDOM else {"random_start": False}
    base_model = noisy_model()
    model = wrapped(method, base_model, optimizer=keras.optimizers.SGD(0.0), **options)
    dense, normalization = base_model.layers[0], base_model.layers[1]
    x_star = model.perturb(X, Y)
    means, variances = {}, {}
    for name, seen in (("x", X), ("x_star", x_star)):
        hidden = dense(seen).numpy()
        means[name], variances[name] = hidden.mean(axis=0), hidden.var(axis=0)
    model.fit(X, Y, verbose=0)
    classified, other = ("x", "x_star") if method in CLASSIFY_X else ("x_star", "x")
    # One update from 0 and 1 at momentum 0.9; float32 sums of eight terms.
    np.testing.assert_allclose(normalization.moving_mean, 0.1 * means[classified], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(normalization.moving_variance, 0.9 + 0.1 * variances[classified], rtol=1e-5)
    if method not in WITHOUT_INNER_MAXIMUM:
        assert not np.allclose(normalization.moving_mean, 0.1 * means[other], rtol=1e-4, atol=1e-4)


# Singular points, ranges


def test_a_zero_gradient_is_not_a_step():
    """sign(0) = 0: features that the network ignores stay where they are."""
    base_model = dense_model()
    kernel, *rest = base_model.get_weights()
    kernel[1] = 0
    base_model.set_weights([kernel, *rest])
    for norm in ("linf", "l2"):
        x_star = wrapped("madry", base_model, norm=norm, random_start=False).perturb(X, Y).numpy()
        np.testing.assert_array_equal(x_star[:, 1], X[:, 1])
        assert np.any(x_star[:, 0] != X[:, 0])


def test_input_outside_the_bounds_is_refused_and_nothing_is_lost():
    model = wrapped("natural")
    before = model.get_weights()
    with pytest.raises(ValueError, match=re.escape("`x` must lie within `bounds`=(0.0, 1.0)") + ".*to 255"):
        model.fit(255 * X / X.max(), Y, verbose=0)
    for value, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_ig_norm_without_a_random_start_is_refused():
    with pytest.raises(ValueError, match="`random_start` must be True"):
        keras_rar.wrap(dense_model(), "ig_norm", random_start=False)


# Precision


def updated(base_model, optimizer, method="ig_sum_norm"):
    options = {} if method in START_AT_RANDOM else {"random_start": False}
    model = wrapped(method, base_model, optimizer=optimizer, **options)
    loss = model.fit(X, Y, verbose=0).history["loss"][0]
    return loss, model.get_weights()


SCALES = [("ig_topk", 2.0), *((method, scale) for method in METHODS for scale in (2.0, 2.0**15))]


@pytest.mark.parametrize(
    ("method", "scale"), [SCALES[0], *(pytest.param(*s, marks=pytest.mark.slow) for s in SCALES[1:])]
)
def test_loss_scaling_leaves_the_update_as_it_is(method, scale):
    base_model = dense_model()
    before = base_model.get_weights()
    loss, weights = updated(base_model, keras.optimizers.SGD(0.5), method)
    base_model.set_weights(before)
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=scale)
    scaled_loss, scaled = updated(base_model, scaling, method)
    assert scaled_loss == pytest.approx(loss, rel=1e-6)
    for value, expected, start in zip(scaled, weights, before, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)  # a power of two is exact: rounding alone
        assert not np.allclose(value, start, atol=1e-4)


@pytest.mark.parametrize(("name", "tolerance"), [("mixed_float16", 2**-10), ("mixed_bfloat16", 2**-7)])
def test_mixed_precision_trains_as_float32(name, tolerance, policy):
    """To some units of the 11 and 8 bits that a float16 and a bfloat16 keep of each intermediate value."""
    reference = dense_model()
    policy(name)
    base_model = dense_model()
    before = reference.get_weights()
    base_model.set_weights(before)
    _, expected = updated(reference, keras.optimizers.SGD(0.5))
    model = wrapped(base_model=base_model, optimizer=keras.optimizers.SGD(0.5), random_start=False)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (name == "mixed_float16")
    model.fit(X, Y, verbose=0)
    for value, wanted, start in zip(model.get_weights(), expected, before, strict=True):
        update = np.abs(wanted - start).max()
        np.testing.assert_allclose(value - start, wanted - start, atol=8 * tolerance * update)


def confident_models(policy, name, gap, of_the_layer_alone=False):
    """A linear network in two precisions, and examples that it gets right by `gap` in the logit."""
    kernel = np.array([[gap, 0.0], [0.0, gap], [1.0, -1.0], [-1.0, 1.0]])
    x = np.tile(np.float32([[1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.5, 0.5]]), (4, 1))
    models = []
    for precision in ("float32", name):
        policy("float32" if of_the_layer_alone else precision)
        layer = keras.layers.Dense(2, use_bias=False, dtype=precision)
        base_model = keras.Sequential([keras.Input((4,), dtype="float32"), layer])
        base_model.set_weights([kernel])
        models.append(wrapped("madry", base_model, random_start=False, epsilon=1e-3))
    return models, x, np.tile([0, 1], 4)


@pytest.mark.parametrize("gap", [1.0, 8.0, 18.0])
@pytest.mark.parametrize(("name", "tolerance"), [("mixed_float16", 2**-10), ("mixed_bfloat16", 2**-7)])
def test_attributions_and_attacks_in_mixed_precision(name, tolerance, gap, policy):
    """At a gap of 18 the gradient of the loss is e⁻¹⁸ ≈ 1.5e-8: not 0, and below what a bare float16 holds (6e-8)."""
    models, x, y = confident_models(policy, name, gap)
    expected, attributions = (model.attributions(x, 1 - x, y).numpy() for model in models)
    assert np.all(expected[:, :2] != 0)
    # Along the segment the loss rises to `gap`: IG is large whatever x is. Errors of z move e^z by some units.
    np.testing.assert_allclose(attributions, expected, atol=16 * tolerance * np.abs(expected).max())
    near = np.clip(x + 1e-3, 0, 1)  # along this one it stays small
    expected, attributions = (model.attributions(x, near, y).numpy() for model in models)
    np.testing.assert_allclose(attributions, expected, atol=gap * 16 * tolerance * np.abs(expected).max())
    expected, x_star = (model.perturb(x, y).numpy() for model in models)
    assert np.all(np.any(expected != x, axis=1))
    np.testing.assert_allclose(x_star, expected, atol=1e-6)


def test_gradients_do_not_vanish_where_one_layer_alone_is_in_float16(policy):
    models, x, y = confident_models(policy, "mixed_float16", 18.0, of_the_layer_alone=True)
    expected, x_star = (model.perturb(x, y).numpy() for model in models)
    np.testing.assert_allclose(x_star, expected, atol=1e-6)
    assert np.all(np.any(x_star != x, axis=1))


# The source


def attributes(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]


def imports(tree):
    """Every module imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


CORE = [path for path in SOURCES if path.startswith("core")]


@pytest.mark.parametrize("path", CORE)
def test_the_core_imports_tensorflow_numpy_and_itself_alone(path):
    tops = set()
    for name in imports(SOURCES[path]):
        tops.add(name.split(".")[0])
        assert not name.startswith("keras_rar") or name.startswith("keras_rar.core")
        assert not name.startswith("tensorflow.keras")
    # Of SciPy special functions, for certificates.
    assert tops <= {"keras_rar", "tensorflow", "numpy", "scipy", *sys.stdlib_module_names}
    names = {node.id for node in ast.walk(SOURCES[path]) if isinstance(node, ast.Name)}
    assert "keras" not in names
    assert not [node for node in attributes(SOURCES[path]) if ast.unparse(node) == "tf.keras"]


CORE_ALONE = """
import sys, types

sys.modules["keras"] = None  # as if it were not installed
package = types.ModuleType("keras_rar")  # whose own __init__ imports keras
package.__path__ = [sys.argv[1]]
sys.modules["keras_rar"] = package
for module in sys.argv[2:]:
    __import__(module)
"""


def test_the_core_can_be_imported_without_keras():
    modules = ["keras_rar." + path.removesuffix(".py").replace(os.sep, ".") for path in CORE if "__" not in path]
    assert len(modules) > 5
    command = [sys.executable, "-c", CORE_ALONE, str(PACKAGE), *modules]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def reached(module):
    """Every module of the package that importing this one needs, itself among them."""
    paths = {
        name: (name.replace(".", os.sep) + ".py", os.path.join(name.replace(".", os.sep), "__init__.py"))
        for name in MODULES
    }
    found, left = set(), [module]
    while left:
        name = left.pop()
        if name in found or name not in MODULES:
            continue
        found.add(name)
        tree = next(SOURCES[path] for path in paths[name] if path in SOURCES)
        left += [imported.removeprefix("keras_rar.") for imported in imports(tree)]
        left += [name.rpartition(".")[0]]
    return found


def test_what_measures_does_not_know_what_trains_and_the_reverse():
    """Training and evaluation adversaries stay independent."""
    training = {"training.model", "training.fitting", "training.step", "training.guard", "training.wrapping"} | {
        "training.update", "training.problem",
    }  # fmt: skip
    measuring = {
        "attacks.attribution", "attacks.kinds", "attacks.prediction", "evaluation.callback", "evaluation.evaluate",
        "evaluation.metrics", "evaluation.protocols", "evaluation.report", "evaluation.running",
        "explaining.attackable", "explaining.saliency_maps",
    }  # fmt: skip
    for module in measuring:
        assert not training & reached(module), module
    for module in training:
        assert not measuring & reached(module), module
    assert "attacks.attribution" in reached("evaluation.evaluate")  # negative control: imports are followed


@pytest.mark.parametrize("path", SOURCES)
def test_no_assert(path):
    assert not [node.lineno for node in ast.walk(SOURCES[path]) if isinstance(node, ast.Assert)]


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("path", SOURCES)
def test_no_private_name_of_another_library(path):
    for name in imports(SOURCES[path]):
        if not name.startswith("keras_rar"):
            assert not name.startswith(("keras.src", "tensorflow.python"))
            assert not any(is_private(part) for part in name.split("."))
    for node in attributes(SOURCES[path]):
        text = ast.unparse(node)
        assert not text.startswith(("keras.src", "_keras.src", "tf.python")), text
        if is_private(node.attr):
            assert isinstance(node.value, ast.Name), text
            assert node.value.id in ("self", "cls"), text


def test_no_private_name_of_a_keras_model_is_used_or_overridden():
    """Private attributes of `RARModel` are its own: Keras defines none of that name."""
    keras_model = dense_model()
    keras_model.compile("sgd", "mse")
    taken = {name for name in dir(keras_model) if is_private(name)}
    own = {node.attr for node in attributes(SOURCES[os.path.join("training", "model.py")]) if is_private(node.attr)}
    own |= {
        node.name
        for node in ast.walk(SOURCES[os.path.join("training", "model.py")])
        if isinstance(node, ast.FunctionDef) and is_private(node.name)
    }
    assert {"_loss_tracker", "_compile_loss"} <= taken  # negative control: such names would be seen
    assert own
    assert own & taken == set()


def test_the_private_method_of_keras_that_is_overridden_is_there():
    """The only one: without it `fit` fails where the first batch does not divide evenly, and in several processes."""
    defined = {node.name for node in ast.walk(SOURCES[os.path.join("training", "fitting.py")]) if hasattr(node, "name")}
    taken = {name for name in dir(keras.Model) if is_private(name)}
    assert defined & taken == {"_maybe_symbolic_build"}


def test_the_sources_are_found():
    assert {os.path.join("training", "model.py"), os.path.join("core", "gradients.py")} <= set(SOURCES)
    assert Path(gradients.__file__).parent.parent == PACKAGE


def test_another_backend_is_refused_with_one_sentence():
    code = "import keras; keras.backend.backend = lambda: 'jax'; import keras_rar"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    message = run.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: keras_rar needs ")
    assert "'jax'" in message
    assert "KERAS_BACKEND=tensorflow" in message
    assert len(re.findall(r"[.!?](?=\s|$)", message)) == 1
