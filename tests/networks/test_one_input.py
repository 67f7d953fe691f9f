"""A network of several inputs and outputs as one of one row: the same predictions, maps and training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_slow

import keras_rar
from keras_rar.networks.row_parts import RowParts, integer_columns

N = 12
RNG = np.random.default_rng(0)
X = {
    "measured": RNG.uniform(size=(N, 3)),
    "words": RNG.integers(0, 50, (N, 4)),
    "other": RNG.normal(0, 5, (N, 2, 2)),
}
Y = {"risk": (X["measured"][:, 0] > 0.5).astype("int64"), "kind": np.arange(N) % 3}
RADII = [0.1, 0.2, 0.0]


def network(named=True, dtype="float32"):
    """Numbers, words and a small matrix; two classes and, a second output, three."""
    keras.utils.set_random_seed(0)
    inputs = {
        "measured": keras.Input((3,), name="measured", dtype=dtype),
        "words": keras.Input((4,), name="words", dtype="int32"),
        "other": keras.Input((2, 2), name="other", dtype=dtype),
    }
    layers = keras.layers
    words = layers.GlobalAveragePooling1D(dtype=dtype)(layers.Embedding(50, 5, dtype=dtype)(inputs["words"]))
    together = [inputs["measured"], words, layers.Flatten(dtype=dtype)(inputs["other"])]
    hidden = layers.Dense(16, "tanh", dtype=dtype)(layers.Concatenate(dtype=dtype)(together))
    outputs = {
        "risk": layers.Dense(2, "softmax", dtype=dtype, name="risk")(hidden),
        "kind": layers.Dense(3, dtype=dtype, name="kind")(hidden),
    }
    return keras.Model(inputs, outputs) if named else keras.Model([*inputs.values()], [*outputs.values()])


def viewed(model=None, **options):
    return keras_rar.OneInput(network() if model is None else model, perturbed=["measured"], output="risk", **options)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("output", ["risk", "kind"])
def test_predictions_are_those_of_the_network(named, output):
    model = network(named)
    view = keras_rar.OneInput(model, output=output)
    given = X if named else [X[name] for name in view.shapes]
    predicted = model.predict(given, verbose=0)
    predicted = predicted[output] if named else predicted[["risk", "kind"].index(output)]
    np.testing.assert_array_equal(view.model.predict(view.rows(given), verbose=0), predicted)
    assert {id(w) for w in view.model.trainable_weights} <= {id(w) for w in model.trainable_weights}


def test_rows_and_parts_are_inverse_and_keep_integers():
    view = viewed()
    for name, part in view.parts(view.rows(X)).items():
        np.testing.assert_array_equal(part, X[name].astype("float32"))
    assert view.rows(X).shape == (N, 11)
    np.testing.assert_array_equal(view.rows([X[name] for name in view.shapes]), view.rows(X))
    tensors = {name: tf.constant(part) for name, part in X.items()}
    np.testing.assert_array_equal(view.rows(tensors), view.rows(X))


def test_ig_is_that_by_hand_with_the_other_inputs_held():
    """`Σₖ wₖ ∂z_y/∂m (0.25 + αₖ(m − 0.25), words, other) ∘ (m − 0.25)` in float64, with the network itself."""
    model = network(dtype="float64")
    logits = keras.Model(model.input, keras.layers.Dense(2, dtype="float64", name="logits")(model.layers[-3].output))
    logits.layers[-1].set_weights(model.get_layer("risk").get_weights())
    view = viewed(model)
    baseline = view.ball(0.1, baseline=0.25)["baseline"]
    options = {"baseline": baseline, "m": 7, "rule": "midpoint", "normalize": False}
    found = view.parts(keras_rar.saliency_map(view.model, view.rows(X), Y["risk"], **options))
    expected, tensors = np.zeros((N, 3)), {name: tf.constant(part) for name, part in X.items()}
    for k in range(7):
        z = tf.constant(0.25 + (k + 0.5) / 7 * (X["measured"] - 0.25))
        with tf.GradientTape() as tape:
            tape.watch(z)
            score = tf.gather(logits({**tensors, "measured": z}), Y["risk"], batch_dims=1)
        expected += tape.gradient(score, z).numpy() * (X["measured"] - 0.25) / 7
    np.testing.assert_allclose(found["measured"], expected, rtol=1e-10, atol=1e-12)
    assert np.all(found["words"] == 0)
    assert np.all(found["other"] == 0)
    held = {**options, "baseline": 0.25}  # a control: without `None` the other inputs move along
    assert np.abs(view.parts(keras_rar.saliency_map(view.model, view.rows(X), Y["risk"], **held))["other"]).max() > 0.01


def test_it_is_trained_measured_and_saved(tmp_path, without_controls):
    net = network()
    view = viewed(net)
    before = {weight.path: weight.numpy() for weight in net.weights}
    ball = view.ball({"measured": RADII})
    model = keras_rar.wrap(view.model, "ig_topk", k=2, steps=2, **ball)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    pairs = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).map(lambda x, y: (view.rows(x), y["risk"]))
    model.fit(pairs, epochs=2, verbose=0)
    kept = [weight.path for weight in net.weights if np.array_equal(weight, before[weight.path])]
    assert kept == ["kind/kernel", "kind/bias"]  # of the output that is not explained
    rows = view.rows(X)
    np.testing.assert_array_equal(view.model.predict(rows, verbose=0), net.predict(X, verbose=0)["risk"])
    moved = view.parts(model.perturb(rows, Y["risk"], seed=1).numpy() - rows)
    assert np.all(np.abs(moved["measured"]).max(axis=0) <= np.array(RADII) + 1e-6)
    assert np.any(moved["measured"][:, :2] != 0)
    assert not np.any(moved["words"])
    assert not np.any(moved["other"])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.perturb(rows, Y["risk"], seed=1), model.perturb(rows, Y["risk"], seed=1))
    assert again.regularizer.baseline == ball["baseline"]
    plain = keras_rar.unwrap(model)
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(loaded.predict(rows, verbose=0), plain.predict(rows, verbose=0))


@pytest.mark.slow
def test_attacks_and_all_controls_run_on_it():
    view = viewed()
    rows, y = view.rows(X), view.model.predict(view.rows(X), verbose=0).argmax(axis=1)
    options = {"steps": 4, "m": 2, "attacked": 8, "noise": 2, "other_maps": (), "faithful": 2, "pgd_steps": 1}
    report = keras_rar.evaluate_robustness(view.model, rows, y, progress=False, **view.ball(0.3), **options)
    assert report.counts["attacked"] == 8
    assert "0 for 8 of 11" in report.to_markdown()
    assert report.findings["faithfulness"] == {"n": 2}
    change = view.parts(report.examples["x_adv"] - report.examples["x"])
    assert np.any(change["measured"])
    assert not np.any(change["words"])


def test_the_settings_have_one_entry_for_each_of_a_row():
    view = keras_rar.OneInput(network(), output="kind")
    ball = view.ball(
        {"measured": RADII, "other": 0.5}, {"measured": (0.0, [1.0, 2.0, 3.0])}, {"measured": [0.1, 0.2, 0.3]}
    )
    assert ball["epsilon"] == [*RADII, *[0.5] * 4, *[0.0] * 4]
    assert ball["bounds"][1][:3] == [1.0, 2.0, 3.0]
    assert ball["bounds"][1][3] > 1e20
    assert ball["baseline"] == [0.1, 0.2, 0.3, *[None] * 8]
    everything = viewed().ball(0.1, None, {"measured": 0.0, "other": [[1, 2], [3, 4]]})
    assert everything["baseline"] == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, *[None] * 4]
    assert np.all(np.array(everything["bounds"][1]) > 1e20)


def test_integers_are_rounded_back_and_noise_keeps_them():
    view = viewed()
    cut = next(layer for layer in view.model.layers if isinstance(layer, RowParts))
    parts = dict(zip(view.shapes, cut(tf.constant(view.rows(X) + 0.3)), strict=True))
    np.testing.assert_array_equal(parts["words"], X["words"])
    assert parts["words"].dtype == "int32"
    np.testing.assert_array_equal(integer_columns(view.model), [False] * 7 + [True] * 4)
    again = RowParts.from_config(cut.get_config())
    assert again.get_config() == cut.get_config()


ERRORS = {
    "no output said": (
        lambda: keras_rar.OneInput(network()),
        r"`output` must be given where there are several",
    ),
    "no such output": (lambda: keras_rar.OneInput(network(), output="a"), r"`output` must be one of \['kind', 'risk'"),
    "words change": (
        lambda: keras_rar.OneInput(network(), perturbed="words", output=0),
        "`perturbed` must be of",
    ),
    "nothing changes": (
        lambda: keras_rar.OneInput(network(), perturbed=[], output=0),
        "`perturbed` must be one",
    ),
    "a part is missing": (lambda: viewed().rows({"words": X["words"]}), "`x` must be a dictionary of"),
    "a wrong shape": (
        lambda: viewed().rows({**X, "other": X["words"]}),
        r"`x` must hold 'other' of shape",
    ),
    "other sizes": (lambda: viewed().rows({**X, "other": X["other"][:3]}), "`x` must hold as many examples of each"),
    "no integers": (lambda: viewed().rows({**X, "words": X["words"] + 0.5}), "`x` must hold whole numbers"),
    "too large": (lambda: viewed().rows({**X, "words": X["words"] * 0 + 2**24 + 1}), "`x` must hold whole numbers"),
    "a radius of what is fixed": (lambda: viewed().ball({"other": 1.0}), "`epsilon` must be of inputs among"),
    "a radius missing": (
        lambda: keras_rar.OneInput(network(), output=0).ball({"other": 1.0}),
        "`epsilon` must be",
    ),
    "a radius of a wrong shape": (lambda: viewed().ball({"measured": [1, 2]}), "`epsilon` must be .* broadcasts"),
    "a baseline of words": (lambda: viewed().ball(0.1, baseline={"words": 0}), "`baseline` must be of inputs among"),
    "maps of another": (lambda: viewed().parts(np.zeros((2, 3))), r"`rows` must be an array of shape \(n, 11\)"),
    "a subclass": (lambda: keras_rar.OneInput(keras.Sequential([keras.Input((2,))])), "`model` must be a Functional"),
    "sizes unknown": (
        lambda: keras_rar.OneInput(keras.Model(i := keras.Input((None,)), keras.layers.Lambda(lambda z: z)(i))),
        "`model` must have inputs of numbers, of known shapes",
    ),
    "the network itself": (lambda: keras_rar.wrap(network()), "must have one input.*3, of which keras_rar.OneInput"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_mistakes_are_refused_in_a_sentence(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


# What is held counts in no score


def held_row():
    """Four numbers that change, and 40 that are held: an eighth of all entries would be more than change."""
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((4,), name="measured"), keras.Input((40,), name="held")]
    hidden = keras.layers.Dense(8, "tanh")(keras.layers.Concatenate()(inputs))
    view = keras_rar.OneInput(keras.Model(inputs, keras.layers.Dense(2)(hidden)), perturbed=["measured"])
    rng = np.random.default_rng(0)
    return view, view.rows([rng.uniform(size=(N, size)) for size in (4, 40)]), np.arange(N) % 2


@pytest.mark.parametrize("attack", some_slow(["topk", "ensemble"], ["ensemble"]))
def test_scores_are_those_of_what_has_an_attribution(attack):
    """Otherwise each pair of a number and what is held would be in order, and an attack would seem to find nothing."""
    view, rows, _ = held_row()
    ball = view.ball(0.3)
    made = {"topk": keras_rar.attacks.TopKAttack, "ensemble": keras_rar.attacks.EnsembleAttack}[attack]
    found = made(k=2, steps=2, m=2, restarts=0, **ball)(view.model, rows)
    maps = [found.map_before[:, :4], found.map_after[:, :4]]
    tau = keras_rar.metrics.kendall_tau_b(*maps).numpy()
    top = keras_rar.metrics.topk_intersection(*maps, k=2).numpy()
    whole = keras_rar.metrics.kendall_tau_b(found.map_before, found.map_after).numpy()
    assert np.all(found.map_before[:, 4:] == 0)
    assert tau.min() < 0.7 < whole.min()  # a control
    if attack == "topk":
        np.testing.assert_allclose(found.scores["kendall_tau"], tau, atol=1e-6)
        np.testing.assert_allclose(found.scores["topk_intersection"], top, atol=1e-6)
    else:
        assert np.all(found.scores["kendall_tau"] <= tau + 1e-6)
        assert found.scores["kendall_tau"].min() < 0.7


def test_k_is_one_of_what_has_an_attribution():
    view, rows, labels = held_row()
    ball = view.ball(0.1)
    options = {"steps": 1, "m": 1, "pgd_steps": 1, "progress": False, "noise": 0, "faithful": 0, "other_maps": ()}
    report = keras_rar.evaluate_robustness(view.model, rows, labels, **ball, **options)
    assert report.protocol["k"] == report.protocol["k_report"] == 1  # an eighth of 44 is 5
    with pytest.raises(ValueError, match=r"^`k` must be below 4, the number of features whose baseline is not None"):
        keras_rar.evaluate_robustness(view.model, rows, labels, k=4, **ball, **options)
    callback = keras_rar.AttributionRobustness(rows, labels, steps=1, m=1, **ball)
    callback.set_model(view.model)
    callback.on_train_begin()
    assert callback._attack.k == 1
    with pytest.raises(ValueError, match=r"`k` must be below 4"):
        keras_rar.wrap(view.model, "ig_topk", k=4, **ball)


@pytest.mark.parametrize("method", ["igr", "ig_topk"])
def test_maps_are_compared_in_training_without_what_is_held(method):
    """The default k is an eighth of what is explained; the other powers of IGR see no entries that are always 0."""
    regularizer = keras_rar.METHODS[method](baseline=[0.0] * 8 + [None] * 8)
    other = keras_rar.METHODS[method]()
    a, b = (tf.constant(RNG.normal(size=(3, 16)), tf.float32) for _ in range(2))

    class Given:
        x, clean_map, perturbed_map, perturbed_loss, counted = a, a, b, tf.zeros(3), None
        value, report = staticmethod(float), staticmethod(lambda name, value: value)

    whole = regularizer.objective(Given)
    np.testing.assert_allclose(whole, other.factor * (1 - other.similarity(a[:, :8], b[:, :8])), rtol=1e-5)
    assert np.abs(whole - other.objective(Given)).max() > 0.1  # a control
