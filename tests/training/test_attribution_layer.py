"""IG at an inner layer: inputs are perturbed, and the change of the loss is attributed to what the layer returns."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, wrapped
from texts import text_network

import keras_rar

L = keras.layers
NAMES = ["convolved", "pooled", "normalized", "hidden"]
every_layer = pytest.mark.parametrize(
    "name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]
)


def network(pool=L.AveragePooling2D, end="softmax"):
    """Smooth but for max-pooling, and one of those layers whose second derivatives TensorFlow has wrong."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            L.Conv2D(3, 3, padding="same", activation="tanh", name="convolved"),
            pool(2, name="pooled"),
            L.Flatten(),
            L.LayerNormalization(name="normalized"),
            L.Dense(4, "softplus", name="hidden"),
            L.Dense(3, end, name="end"),
        ]
    )


def segment(n=3):
    x, y = batch(n, (4, 4, 1))
    return x.astype("float64"), np.random.default_rng(1).uniform(size=x.shape), y


def at(name, base_model=None, method="ig_sum_norm", **options):
    options = {"loss": "sparse_categorical_crossentropy", "bounds": None, "rule": "right", "m": 3, **options}
    return wrapped(method, base_model or network(), attribution_layer=name, **options)


def loss_of(base_model, z, y):
    return keras.losses.sparse_categorical_crossentropy(y, base_model(z)).numpy()


@every_layer
@pytest.mark.usefixtures("in_float64")
def test_attributions_are_complete_at_the_layer(name):
    x, x_prime, y = segment()
    model = at(name, rule="gauss_legendre", m=16)
    found = model.attributions(x, x_prime, y)
    assert found.shape == (3, *model.base_model.get_layer(name).output.shape[1:])
    change = loss_of(model.base_model, x_prime, y) - loss_of(model.base_model, x, y)
    np.testing.assert_allclose(np.sum(found, axis=tuple(range(1, len(found.shape)))), change, atol=1e-9)  # quadrature
    coarse = at(name, model.base_model, rule="right", m=1).attributions(x, x_prime, y)  # a control
    assert np.abs(np.sum(coarse, axis=tuple(range(1, len(found.shape)))) - change).max() > 1e-2


@every_layer
@pytest.mark.usefixtures("in_float64")
def test_the_formula_written_out(name):
    """`Σₖ wₖ ∂ℓ/∂h(zₖ) ∘ J_h(zₖ)(x′ − x)`, by a Jacobian, and by models of Keras that end and begin at the layer."""
    (x, x_prime, y), base_model = segment(), network()
    place = [layer.name for layer in base_model.layers].index(name) + 1
    front, rest = keras.Sequential(base_model.layers[:place]), keras.Sequential(base_model.layers[place:])
    expected = 0
    for alpha in (1 / 3, 2 / 3, 1):
        z = tf.constant(x + alpha * (x_prime - x))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(z)
            h = front(z)
            loss = keras.losses.sparse_categorical_crossentropy(y, rest(h))
        jacobian = tape.batch_jacobian(h, z).numpy().reshape(*h.shape, -1)
        expected += tape.gradient(loss, h) * np.einsum("n...i,ni->n...", jacobian, (x_prime - x).reshape(3, -1)) / 3
    for chunk in (None, 2):
        found = at(name, base_model, chunk=chunk).attributions(x, x_prime, y)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)  # float64 rounding


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(
    ("name", "pool", "method", "chunk"),
    [
        ("hidden", L.MaxPooling2D, "ig_sum_norm", None),
        ("normalized", L.AveragePooling2D, "ig_norm", 1),
        pytest.param("pooled", L.MaxPooling2D, "ig_sum_norm", 2, marks=pytest.mark.slow),
        pytest.param("convolved", L.MaxPooling2D, "ig_norm", None, marks=pytest.mark.slow),
    ],
)
def test_the_gradients_of_its_norm_are_those_of_finite_differences(name, pool, method, chunk):
    """In weights on both sides of the layer, and in x′."""
    x, x_prime, y = segment(2)
    model = at(name, network(pool), method, chunk=chunk)
    weights = model.trainable_variables

    def value(z):
        return float(tf.reduce_sum(model.objective(x, z, y)))

    moving = tf.constant(x_prime)
    with tf.GradientTape() as tape:
        tape.watch(moving)
        total = tf.reduce_sum(model.objective(x, moving, y))
    *found, in_x_prime = tape.gradient(total, [*(w.value for w in weights), moving])
    rng = np.random.default_rng(2)
    for weight, gradient in zip(weights, found, strict=True):
        before, direction = weight.numpy(), rng.normal(size=weight.shape)
        ends = []
        for side in (1e-5, -1e-5):
            weight.assign(before + side * direction)
            ends.append(value(x_prime))
        weight.assign(before)
        expected = np.sum(gradient * direction)
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(expected, rel=1e-6, abs=1e-8), weight.path
        assert np.any(gradient)
    direction = rng.normal(size=x.shape)
    difference = (value(x_prime + 1e-5 * direction) - value(x_prime - 1e-5 * direction)) / 2e-5
    assert difference == pytest.approx(np.sum(in_x_prime * direction), rel=1e-6)


@pytest.mark.parametrize(
    ("method", "weight"), [("ig_norm", "factor"), pytest.param("ig_sum_norm", "beta", marks=pytest.mark.slow)]
)
def test_at_a_layer_that_changes_nothing_it_is_the_training_at_the_input(method, weight):
    inputs = keras.Input((4,))
    hidden = L.Dense(5, "tanh", name="hidden")(L.Identity(name="same")(inputs))
    base_model = keras.Model(inputs, L.Dense(3)(hidden))
    x, y = batch()
    trained = {}
    for name in ("same", "hidden", None):
        copied = keras.models.clone_model(base_model)
        copied.set_weights(base_model.get_weights())
        model = wrapped(method, copied, attribution_layer=name, **{weight: 5.0})
        model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0)
        trained[name] = np.concatenate([w.ravel() for w in copied.get_weights()])
    np.testing.assert_allclose(trained["same"], trained[None], atol=1e-6)
    assert np.abs(trained["hidden"] - trained[None]).max() > 1e-4  # a control


def test_x_star_ascends_the_norm_at_the_layer_within_the_ball_of_inputs():
    x, y = batch()
    base_model = dense_model()
    model = wrapped("ig_norm", base_model, attribution_layer=base_model.layers[0].name, steps=10, m=8, attack_m=8)

    def norms(x_prime):
        return np.abs(model.attributions(x, x_prime, y)).sum(axis=1)

    x_star = model.perturb(x, y, seed=1).numpy()
    assert np.abs(x_star - x).max() <= 0.1 + 1e-6
    assert np.all((x_star >= 0) & (x_star <= 1))
    corners = np.random.default_rng(0).choice([-0.1, 0.1], (20, *x.shape)).astype("float32")
    assert norms(x_star).mean() > 1.2 * np.mean([norms(np.clip(x + corner, 0, 1)) for corner in corners])


def test_compiled_by_xla_it_is_the_same():
    x, y = batch(3, (4, 4, 1))
    base_model = network(L.MaxPooling2D)
    plain, compiled = (
        at("pooled", base_model, compile={"jit_compile": jit}).attributions(x, x[::-1], y) for jit in (False, True)
    )
    np.testing.assert_allclose(compiled, plain, atol=1e-5)
    assert np.abs(plain).max() > 1e-2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:One node of one example")
def test_an_update_by_parts_is_that_at_once():
    x, y = batch(6, (4, 4, 1))
    weights = []
    for options in ({}, {"memory_budget": 1e-6}, {"chunk": 1}):
        keras.utils.set_random_seed(0)
        model = at("pooled", network(L.MaxPooling2D), **options)
        model.fit(x, y, batch_size=6, epochs=1, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for once, *others in zip(*weights, strict=True):
        for other in others:
            np.testing.assert_allclose(other, once, atol=2e-6)  # float32


def test_it_is_saved_with_the_model(tmp_path):
    x, y = batch(4, (4, 4, 1))
    model = at("hidden")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.attribution_layer == "hidden"
    np.testing.assert_array_equal(loaded.attributions(x, x[::-1], y), model.attributions(x, x[::-1], y))


def test_maps_that_people_see_stay_those_of_the_input():
    """A method of the user's that reads both."""

    class Both(keras_rar.AbstractAttributionRegularizer):
        def objective(self, terms):
            seen.append((terms.attributions.shape, terms.clean_map.shape))
            return terms.perturbed_loss

    seen = []
    x, y = batch(3, (4, 4, 1))
    model = wrapped(Both(), network(), attribution_layer="hidden", loss="sparse_categorical_crossentropy")
    seen.clear()
    model.objective(x, x, y)
    assert [tuple(shape)[1:] for shape in seen[0]] == [(4,), (4, 4, 1)]


def residual():
    inputs = keras.Input((4,))
    inner = L.Dense(4, "tanh", name="inner")(inputs)
    return keras.Model(inputs, L.Dense(3)(L.Add()([inner, inputs])))


def shared():
    inputs, twice = keras.Input((4,)), L.Dense(4, "tanh", name="twice")
    return keras.Model(inputs, L.Dense(3)(twice(twice(inputs))))


def masked():
    inputs = keras.Input((5, 3))
    rows = L.Masking(name="rows")(inputs)
    return keras.Model(inputs, L.Dense(3)(L.LSTM(4)(rows)))


PASSED = (
    r"^`attribution_layer` must be a layer that every path from the input to the output runs through, without a mask"
)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (residual, {"attribution_layer": "inner"}, PASSED),
        (masked, {"attribution_layer": "rows"}, PASSED),
        (shared, {"attribution_layer": "twice"}, r"^`attribution_layer` must be a layer that is called once"),
        (
            residual,
            {"attribution_layer": "outer"},
            r"^`attribution_layer` must be the name of one layer of '\w+', such as 'inner'.*, the name of none",
        ),
        (residual, {"attribution_layer": 3}, r"^`attribution_layer` must be the name of a layer. Received"),
        (network, {"attribution_layer": "end"}, r"^`attribution_layer` must be a layer before the softmax or sigmoid"),
        (
            text_network,
            {"attribution_layer": "embedding", "layer": "embedding"},
            r"^`attribution_layer` must be None where `layer` is given",
        ),
        (
            network,
            {"attribution_layer": "hidden", "method": "ig_topk"},
            r"^`attribution_layer` must be None for a method that does not read `terms.attributions`. Received",
        ),
        (network, {"attribution_layer": "hidden", "method": "madry"}, r"does not read `terms.attributions`"),
    ],
)
def test_what_cannot_be_attributed_to_is_refused_in_one_sentence(make, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        keras_rar.wrap(make(), **{"method": "ig_norm", **options})


@pytest.mark.parametrize("end", ["softmax", None, "operation"])
def test_the_end_of_a_network_is_attributed_to_where_nothing_squashes_it(end):
    base_model = network(end=None)
    if end == "softmax":
        base_model = keras.Sequential([keras.Input((4, 4, 1)), *base_model.layers, L.Softmax(name="squashed")])
        with pytest.raises(ValueError, match="before the softmax or sigmoid"):
            keras_rar.wrap(base_model, "ig_norm", attribution_layer="squashed")
    if end == "operation":
        base_model = keras.Model(base_model.inputs, keras.ops.softmax(base_model.outputs[0]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=end is None)
    x, x_prime, y = segment()
    model = at("end", base_model, loss=loss, rule="gauss_legendre", m=8)
    change = loss(y[:1], base_model(x_prime[:1])) - loss(y[:1], base_model(x[:1]))
    np.testing.assert_allclose(tf.reduce_sum(model.attributions(x, x_prime, y)[0]), change, atol=1e-5)  # float32
