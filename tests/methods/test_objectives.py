"""Every objective: its formula by NumPy, exact gradients in θ, what it is at a weight of 0, and its special cases."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSIFY_X, START_AT_RANDOM, WITHOUT_INNER_MAXIMUM, batch, dense_model, some_slow, wrapped
from same_training import ACCURATE, EXACT, ONE_NODE, assert_same_training, pair, segment, weight_gradients

import keras_rar
from keras_rar.core import class_probabilities, sizes, soft_correlations
from keras_rar.core.evaluations import draws
from keras_rar.core.network_functions import Network
from keras_rar.core.rank_margins import rank_margin

WEIGHTED = {"loss_change": "factor", "input_gradient": "factor", "r2et": "factor", "pearson": "factor"}
WEIGHTED |= {"kendall": "factor", "lga": "factor", "trades": "beta", "mart": "factor", "cure": "factor"}
WEIGHTED |= {"hessian": "factor", "art": "factor", "ssr": "factor", "contrast": "factor", "prior": "factor"}
"""The weight of a method's term, with which it is natural or adversarial training at 0."""
BACKGROUND = np.random.default_rng(9).uniform(size=(3, 4))
OBJECTIVES = {
    "loss_change": {"factor": 0.7},
    "input_gradient": {"factor": 0.7},
    "input_gradient, q=1": {"factor": 0.3, "q": 1.0},
    "r2et": {"factor": 0.4, "k": 2},
    "r2et, one pair": {"factor": 0.4, "k": 2, "pairs": 1},
    "pearson": {"factor": 2.0},
    "pearson, gradients": {"factor": 2.0, "maps": ("gradient",)},
    "pearson, both": {"factor": 2.0, "maps": ("ig", "gradient")},
    "kendall": {"factor": 2.0, "temperature": 0.3},
    "lga": {"factor": 2.0, "l2": 0.5},
    "trades": {"beta": 6.0},
    "mart": {"factor": 5.0},
    "cure": {"factor": 2.0, "h": 0.5},
    "hessian": {"factor": 0.5, "h": 0.1},
    "art": {"factor": 3.0},
    "ssr": {"factor": 2.0, "iterations": 100, "h": 1e-3},
    "contrast": {"factor": 2.0},
    "prior": {"factor": 0.5, "background": BACKGROUND, "samples": 2},
    "prior, gini": {"factor": 0.7, "prior": "gini"},
}
every_objective = pytest.mark.parametrize("case", OBJECTIVES)
AT_ONCE = ("loss_change", "input_gradient", "r2et", "pearson", "pearson, both", "trades", "prior")
"""The others take half of the time."""
most_objectives = pytest.mark.parametrize(
    "case", [case if case in AT_ONCE else pytest.param(case, marks=pytest.mark.slow) for case in OBJECTIVES]
)


pytestmark = pytest.mark.usefixtures("in_float64")


def made(case, base_model=None, **options):
    return wrapped(case.split(",")[0], base_model, **{**OBJECTIVES[case], **options})


def without_terms(case):
    method = case.split(",")[0]
    return {WEIGHTED[method]: 0, **({"l2": 0} if method == "lga" else {})}


def slopes(f, z, h=1e-5):
    """`∂f/∂z` of each example, by central differences."""
    found = np.zeros(z.shape)
    for place in np.ndindex(z.shape[1:]):
        shift = np.zeros(z.shape)
        shift[(slice(None), *place)] = h
        found[(slice(None), *place)] = (f(z + shift) - f(z - shift)) / (2 * h)
    return found


class By:
    """The functions of a network that formulas are made of, without the engine."""

    def __init__(self, model, y):
        self.network, self.y = model.base_model, y

    def logits(self, z):
        return self.network(z).numpy()

    def loss(self, z):
        logits = self.logits(z)
        return np.log(np.exp(logits).sum(axis=1)) - self.logit(z)

    def logit(self, z):
        return self.logits(z)[np.arange(len(z)), self.y]

    def gradient(self, z):
        return slopes(self.loss, z)

    def logit_gradient(self, z):
        return slopes(self.logit, z)

    def map(self, z):
        """IG of the label's logit from 0, by `midpoint(3)`, absolute."""
        return np.abs(z * np.mean([self.logit_gradient(z * (k + 0.5) / 3) for k in range(3)], axis=0))

    def log_p(self, z):
        logits = self.logits(z)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def divergence(self, x, x_prime):
        return np.sum(np.exp(self.log_p(x)) * (self.log_p(x) - self.log_p(x_prime)), axis=1)

    def runner_up(self, z):
        p = np.exp(self.log_p(z))
        p[np.arange(len(p)), self.y] = 0
        return -np.log(1 - p.max(axis=1))


def cosine(a, b):
    a, b = (m.reshape(len(m), -1) for m in (a, b))
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def soft_signs(a, temperature):
    """Of all pairs."""
    return np.tanh((a[:, :, None] - a[:, None]) / (temperature * a.mean(axis=1)[:, None, None]))


def ahead(by, x, h):
    signs = np.sign(by.gradient(x))
    return by.gradient(x + h * signs / np.linalg.norm(signs, axis=1, keepdims=True)) - by.gradient(x)


def signs_at(x, step=0):
    network = Network(None, None, None)
    return keras_rar.Terms(network, x, x, [0], rule=None, step=step).random_signs().numpy()


def hessian(by, x, h):
    """‖Hv‖² for the v of the first step."""
    shift = h * signs_at(x)
    return np.sum(((by.logit_gradient(x + shift) - by.logit_gradient(x - shift)) / (2 * h)) ** 2, axis=1)


def alignment(by, x, x_prime):
    g, other = by.logit_gradient(x), by.logit_gradient(x_prime)
    return 0.5 * ((g - other) ** 2).sum(axis=1) + 2 * (1 - cosine(g, other)) / 2


def art(by, x, x_prime):
    inputs = x, x_prime

    def others(z):
        logits = by.logits(z)
        logits[np.arange(len(z)), by.y] = -np.inf
        return logits.max(axis=1)

    d_y = [1 - cosine(z, by.logit_gradient(u)) for z in inputs for u in inputs]
    d_other = [1 - cosine(z, slopes(others, u)) for z in inputs for u in inputs]
    return by.loss(x_prime) + 3 * np.log1p(np.exp(np.max(d_y, axis=0) - np.min(d_other, axis=0)))


def largest_eigenvalue(by, x):
    """Of the Hessian, of the largest size."""
    found = []
    columns = [by.gradient(x + 1e-3 * e) - by.gradient(x - 1e-3 * e) for e in np.eye(4)]
    for matrix in np.transpose(columns, (1, 0, 2)) / 2e-3:
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        found.append(values[np.abs(values).argmax()])
    return np.array(found)


def ig(f, start, end):
    """By `midpoint(3)`."""
    return (end - start) * np.mean([slopes(f, start + (end - start) * (k + 0.5) / 3) for k in range(3)], axis=0)


def contrast(by, x, x_prime):
    def p_label(z):
        return np.exp(by.log_p(z))[np.arange(len(z)), by.y]

    def p_other(z):
        p = np.exp(by.log_p(z))
        p[np.arange(len(z)), by.y] = 0
        return p.max(axis=1)

    def from_uniform(a):
        q = np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)
        return np.mean(np.log(1 / (a.shape[1] * q)), axis=1)

    zero, before, change = np.zeros(x.shape), ig(p_label, np.zeros(x.shape), x), -ig(by.loss, x, x_prime)
    classes = from_uniform(ig(p_other, zero, x_prime)) - from_uniform(ig(p_label, zero, x_prime))
    weights = np.where(np.sign(before) == np.sign(change), np.abs(before), 1)
    return by.loss(x_prime) + 2 * (classes + (weights * np.abs(change)).sum(axis=1))


def expected_map(by, x, background, samples):
    """Of the first step."""
    pairs = [(background[int(which)], float(alpha)) for which, alpha in draws(0, samples, len(background))]
    return np.mean([(x - b) * by.logit_gradient(b + alpha * (x - b)) for b, alpha in pairs], axis=0)


def gini(a):
    a = np.abs(a)
    return np.abs(a[:, :, None] - a[:, None]).sum(axis=(1, 2)) / (2 * a.shape[1] * a.sum(axis=1))


def mart(by, x, x_prime):
    wrong = 1 - np.exp(by.logit(x) - np.log(np.exp(by.logits(x)).sum(axis=1)))
    return by.loss(x_prime) + by.runner_up(x_prime) + 5 * by.divergence(x, x_prime) * wrong


def margin(gradient, k, pairs=None):
    a = -np.sort(-np.abs(gradient), axis=1)
    first, last = (0, None) if pairs is None else (max(k - pairs, 0), k + pairs)
    return (a[:, first:k].mean(axis=1) - a[:, k:last].mean(axis=1)) / a.mean(axis=1)


def correlation(a, b):
    return cosine(*(m - m.mean(axis=1, keepdims=True) for m in (a, b)))


def correlation_of_gradients(by, x, x_prime):
    return correlation(*(np.abs(by.logit_gradient(z)) for z in (x, x_prime)))


FORMULAS = {
    "loss_change": lambda by, x, x_prime: by.loss(x) + 0.7 * np.abs(by.loss(x_prime) - by.loss(x)),
    "input_gradient": lambda by, x, _: by.loss(x) + 0.7 * (by.gradient(x) ** 2).sum(axis=1),
    "input_gradient, q=1": lambda by, x, _: by.loss(x) + 0.3 * np.abs(by.gradient(x)).sum(axis=1),
    "r2et": lambda by, x, _: by.loss(x) - 0.4 * margin(by.logit_gradient(x), 2),
    "r2et, one pair": lambda by, x, _: by.loss(x) - 0.4 * margin(by.logit_gradient(x), 2, 1),
    "pearson": lambda by, x, z: by.loss(z) + 2 * (1 - correlation(by.map(x), by.map(z))),
    "pearson, gradients": lambda by, x, z: by.loss(z) + 2 * (1 - correlation_of_gradients(by, x, z)),
    "pearson, both": lambda by, x, z: (
        by.loss(z) + 1 - correlation(by.map(x), by.map(z)) + 1 - correlation_of_gradients(by, x, z)
    ),
    "kendall": lambda by, x, z: by.loss(z) + 2 * (1 - cosine(*(soft_signs(by.map(u), 0.3) for u in (x, z)))),
    "lga": lambda by, x, z: by.loss(x) + alignment(by, x, z),
    "trades": lambda by, x, z: by.loss(x) + 6 * by.divergence(x, z),
    "mart": mart,
    "cure": lambda by, x, _: by.loss(x) + 2 * (ahead(by, x, 0.5) ** 2).sum(axis=1),
    "hessian": lambda by, x, _: by.loss(x) + 0.5 * hessian(by, x, 0.1),
    "art": art,
    "ssr": lambda by, x, _: by.loss(x) + 2 * largest_eigenvalue(by, x),
    "contrast": contrast,
    "prior": lambda by, x, _: (
        by.loss(x) + 0.5 * np.abs(np.diff(expected_map(by, x, BACKGROUND, 2), axis=1)).sum(axis=1)
    ),
    "prior, gini": lambda by, x, _: by.loss(x) - 0.7 * gini(expected_map(by, x, np.zeros((1, 4)), 1)),
}


@every_objective
def test_the_objective_is_the_formula(case):
    x, x_prime, y = segment()
    model = made(case)
    found = model.objective(x, x_prime, y)
    rtol = 1e-4 if case == "ssr" else 1e-7  # differences of differences; an iteration
    np.testing.assert_allclose(found, FORMULAS[case](By(model, y), x, x_prime), rtol=rtol, atol=1e-8)  # h² and 1/h
    others = [other for other in FORMULAS if other != case]
    assert all(np.abs(FORMULAS[other](By(model, y), x, x_prime) - found).max() > 1e-3 for other in others)


@most_objectives
def test_gradients_are_exact(case):
    """In all weights at once along a random direction, through the second derivatives."""
    model, (x, x_prime, y) = made(case), segment(n=3)
    rng, h, start = np.random.default_rng(3), 1e-5, model.get_weights()
    direction = [rng.normal(size=value.shape) for value in start]
    exact = sum(np.sum(g * d) for g, d in zip(weight_gradients(model, x, x_prime, y), direction, strict=True))
    values = []
    for sign in (1, -1):
        model.set_weights([value + sign * h * d for value, d in zip(start, direction, strict=True)])
        values.append(float(tf.reduce_sum(model.objective(x, x_prime, y))))
    model.set_weights(start)
    rel = 1e-4 if case == "ssr" else 1e-6  # an iteration; h² times a third derivative
    assert exact == pytest.approx((values[0] - values[1]) / (2 * h), rel=rel, abs=1e-7)
    plain = weight_gradients(made(case, model.base_model, **without_terms(case)), x, x_prime, y)
    without = sum(np.sum(g * d) for g, d in zip(plain, direction, strict=True))
    assert abs(exact - without) > 1e-3  # negative control: the term is felt


@pytest.mark.parametrize("method", some_slow([method for method in WEIGHTED if method != "mart"], list(WEIGHTED)[::2]))
def test_with_a_weight_of_zero_it_is_natural_or_adversarial_training(method):
    plain = "natural" if method in CLASSIFY_X else "madry"
    assert_same_training(*pair(method, without_terms(method), plain, {}), *segment())


@pytest.mark.parametrize("method", sorted(WITHOUT_INNER_MAXIMUM - {"natural"}))
def test_what_looks_at_x_alone_is_refused_where_the_network_has_no_second_derivative(method):
    @tf.custom_gradient
    def once(x):
        return tf.square(x), lambda upstream: tf.stop_gradient(2 * x * upstream)

    class Once(keras.layers.Layer):
        def call(self, x):
            return once(x)

    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), Once(name="once"), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"second derivatives in its input\. Received: the layer 'once'"):
        keras_rar.wrap(network, method)
    keras_rar.wrap(network, "loss_change")  # which takes none


@pytest.mark.parametrize("case", some_slow([*WEIGHTED, "pearson, both"], AT_ONCE))
def test_padding_of_texts_has_no_part_in_it(case):
    """Words behind the mask are as none, whatever the method compares."""
    method, _, both = case.partition(", ")
    options = {"k": 2} if method == "r2et" else {"maps": ("ig", "gradient")} if both else {}
    keras.config.set_dtype_policy("float64")
    layers = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)]
    found = []
    for length in (5, 7):
        keras.utils.set_random_seed(2)
        words = keras.layers.Embedding(9, 3, mask_zero=True, name="words")
        network = keras.Sequential([keras.Input((length,), dtype="int32"), words, *map(copied, layers)])
        model = wrapped(method, network, layer="words", epsilon=0.1, **options)
        x = np.zeros((2, length), "int32")
        x[:, :5] = [[1, 2, 3, 4, 5], [6, 7, 8, 1, 2]]
        h = words(x).numpy()
        h_prime = h + 0.05 * np.arange(1, 4) * (x != 0)[..., np.newaxis]
        found.append(model.objective(x, h_prime, np.array([0, 1])).numpy())
    if method in ("hessian", "ssr"):  # whose random direction depends on the length
        assert np.isfinite(found).all()
    else:
        np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


def copied(layer):
    return type(layer).from_config(layer.get_config())


# Special cases


class IGPower(keras_rar.AbstractAttributionRegularizer):
    """`ℓ(x) + λ ‖IG(x, x*)‖_q^q`."""

    def __init__(self, factor=1.0, q=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.q = factor, q

    def objective(self, terms):
        return terms.clean_loss + self.factor * sizes.power(terms.attributions, self.q)


@pytest.mark.parametrize("q", [1.0, 2.0, 3.0])
def test_one_node_is_input_gradient_regularisation(q):
    """With s = ‖·‖_q^q and λ/ε^q, at the x* that is found; in the objective and in its gradients."""
    x, _, y = segment()
    power = IGPower(0.3 / ONE_NODE["epsilon"] ** q, q, **ONE_NODE)
    rar, method = pair(power, {}, "input_gradient", {"factor": 0.3, "q": q})
    x_star = rar.perturb(x, y)
    np.testing.assert_allclose(rar.objective(x, x_star, y), method.objective(x, x, y), **EXACT)
    for actual, expected in zip(*(weight_gradients(m, x, x_star, y) for m in (rar, method)), strict=True):
        np.testing.assert_allclose(actual, expected, **EXACT)
    coarse = IGPower(0.3 / ONE_NODE["epsilon"] ** q, q, **{**ONE_NODE, "rule": "right"})  # negative control
    other = wrapped(coarse, rar.base_model)
    assert np.abs(other.objective(x, other.perturb(x, y), y) - method.objective(x, x, y)).max() > 1e-5


class AbsoluteSum(keras_rar.AbstractAttributionRegularizer):
    """`ℓ(x) + λ |Σ IG(x, x*)|`."""

    def objective(self, terms):
        return terms.clean_loss + sizes.absolute_total(terms.attributions)

    def ascended(self, terms):
        return sizes.absolute_total(terms.attributions)


def test_the_change_of_the_loss_is_the_absolute_sum():
    """With x* too."""
    x, x_prime, y = segment()
    rar, method = pair(AbsoluteSum(steps=3, **ACCURATE), {}, "loss_change", {"steps": 3})
    assert_same_training(rar, method, x, x_prime, y, atol=1e-8)  # quadrature
    np.testing.assert_allclose(rar.perturb(x, y, seed=3), method.perturb(x, y, seed=3), atol=1e-8)
    coarse = wrapped(AbsoluteSum(rule="right", m=1), rar.base_model)  # negative control
    assert np.abs(coarse.objective(x, x_prime, y) - method.objective(x, x_prime, y)).max() > 1e-4


def test_the_change_of_the_loss_is_adversarial_training_where_it_rises():
    x, x_prime, y = segment()
    method, madry = pair("loss_change", {}, "madry", {})
    by = By(method, y)
    rises = by.loss(x_prime) > by.loss(x)
    assert len(set(rises)) == 2
    found, expected = (model.objective(x, x_prime, y).numpy() for model in (method, madry))
    np.testing.assert_allclose(found[rises], expected[rises], **EXACT)
    assert np.all(found[~rises] > expected[~rises])


def test_the_change_of_the_loss_does_not_move_from_x_itself():
    with pytest.raises(ValueError, match=r"`random_start` must be True for the change of the loss"):
        keras_rar.LossChangeRegularizer(random_start=False)


def test_the_change_of_the_loss_compares_one_network_with_itself():
    """Dropout and batch statistics are of the classification pass alone: where x* is x there is no change."""

    layers = [keras.layers.Dense(8, "tanh"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    network = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])
    x, y = batch()
    history = wrapped("loss_change", network, epsilon=1e-9).fit(x, y, verbose=0).history
    assert history["loss_change"][0] < 1e-6
    assert history["clean_loss"][0] != pytest.approx(float(np.mean(wrapped("natural", network).objective(x, x, y))))


@pytest.mark.parametrize(("q", "error"), [(0.5, ValueError), (-1, ValueError), (np.nan, ValueError), ("2", TypeError)])
def test_an_exponent_below_one_is_refused(q, error):
    with pytest.raises(error, match=r"^`q` must be a .*float.*\. Received: q="):
        keras_rar.InputGradientRegularizer(q=q)


@pytest.mark.parametrize("method", sorted(START_AT_RANDOM - {"ig_norm", "loss_change"}))
def test_what_has_no_gradient_at_x_itself_starts_at_random(method):
    with pytest.raises(ValueError, match="`random_start` must be True"):
        keras_rar.METHODS[method](random_start=False)


# Second derivatives by differences

MATRIX = np.array([[2.0, -1.0, 0.5], [-1.0, 1.0, 0.0], [0.5, 0.0, -3.0]])


def quadratic_terms(x, step=0):
    """Of the score ½ zᵀMz, which is the logit of the label and the loss."""
    score = lambda y, z: tf.reduce_sum(z * (z @ MATRIX), axis=1) / 2  # noqa: E731
    return keras_rar.Terms(Network(lambda z, _: z, score, score), x, x, [0] * len(x), rule=None, step=step)


def test_the_estimate_of_the_hessian_has_its_norm_as_the_mean():
    x = np.random.default_rng(0).uniform(size=(2, 3))
    method = keras_rar.HessianRegularizer(factor=1.0)
    values = []
    for step in range(300):
        terms = quadratic_terms(x, step)
        values.append(method.objective(terms) - terms.clean_loss)
    np.testing.assert_allclose(np.mean(values, axis=0), (MATRIX**2).sum(), rtol=0.1)  # 300 draws
    assert np.std(values) > 0.1  # negative control: the directions differ


def test_curvature_is_that_along_the_sign_of_the_gradient():
    x = np.array([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]])
    terms = quadratic_terms(x)
    signs = np.sign(x @ MATRIX)
    along = signs / np.linalg.norm(signs, axis=1, keepdims=True)
    method = keras_rar.CURERegularizer(factor=1.0, h=0.7)
    expected = 0.49 * ((along @ MATRIX) ** 2).sum(axis=1)
    np.testing.assert_allclose(method.objective(terms) - terms.clean_loss, expected, rtol=1e-10)


def test_random_signs_differ_from_step_to_step_and_are_shared_by_the_batch():
    x = np.zeros((3, 5, 4))
    signs = [signs_at(x, step) for step in range(3)]
    assert np.all(np.abs(signs) == 1)
    assert all(np.all(drawn == drawn[:1]) for drawn in signs)
    assert np.any(signs[0] != signs[1])
    np.testing.assert_array_equal(signs[1], signs_at(x, tf.constant(1, tf.int64)))


# Probabilities


def test_divergences_by_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 3))
    p, q = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (a, b))
    np.testing.assert_allclose(class_probabilities.kl_divergence(a, b), (p * np.log(p / q)).sum(axis=1))
    np.testing.assert_allclose(class_probabilities.kl_divergence(a, a), np.zeros(4), atol=1e-15)
    y = np.array([0, 2, 1, 1])
    one_hot = np.eye(3)[y]
    for labels in (y, y[:, None], one_hot):
        np.testing.assert_allclose(class_probabilities.label_probability(labels, a), p[np.arange(4), y])
        expected = -np.log(1 - np.where(one_hot > 0, 0, p).max(axis=1))
        np.testing.assert_allclose(class_probabilities.runner_up_loss(labels, a), expected)


def test_one_output_unit_is_two_classes():
    z, y = np.random.default_rng(0).normal(size=(6, 1)), np.array([0, 1, 0, 1, 1, 0])
    two = np.concatenate([np.zeros_like(z), z], axis=1)
    for function in (class_probabilities.label_probability, class_probabilities.runner_up_loss):
        np.testing.assert_allclose(function(y, z), function(y, two))
    np.testing.assert_allclose(
        class_probabilities.kl_divergence(z, z[::-1]), class_probabilities.kl_divergence(two, two[::-1])
    )
    probability = 1 / (1 + np.exp(-(2 * y - 1) * z[:, 0]))
    np.testing.assert_allclose(class_probabilities.label_probability(y, z), probability)


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_certain_predictions_have_finite_losses_and_gradients(scale):
    z = tf.constant(scale * np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = class_probabilities.runner_up_loss([0, 0], z)
    assert np.isfinite(value).all()
    assert np.isfinite(tape.gradient(value, z)).all()
    assert value[1] > value[0]


# Correlations


def test_a_cold_kendall_over_all_pairs_is_tau_b():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 1, size=(2, 5, 9))
    a[0, :4] = 0.5  # ties
    found = soft_correlations.soft_kendall(a, b, 1e-7, shifts=8)
    np.testing.assert_allclose(found, keras_rar.metrics.kendall_tau_b(a, b), atol=1e-6)
    warm = soft_correlations.soft_kendall(a, b, 1.0, shifts=8)
    assert np.abs(warm - found).max() > 0.01


def test_some_pairs_are_near_all_of_them_and_differ_from_step_to_step():
    a, b = np.random.default_rng(0).uniform(size=(2, 4, 400))
    b += a
    whole = soft_correlations.soft_kendall(a, b, shifts=399)
    drawn = np.array([soft_correlations.soft_kendall(a, b, seed=seed) for seed in range(3)])
    np.testing.assert_allclose(drawn, np.broadcast_to(whole, drawn.shape), atol=0.1)  # 16 of 399
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-6


SIMILARITIES = {"correlation": soft_correlations.correlation, "soft_kendall": soft_correlations.soft_kendall}
every_similarity = pytest.mark.parametrize("similarity", SIMILARITIES.values(), ids=SIMILARITIES)


@every_similarity
def test_padding_has_no_part_in_a_correlation(similarity):
    a, b = np.random.default_rng(1).uniform(size=(2, 2, 9))
    counted = np.arange(9) < [[9], [5]]
    found = similarity(a, b, counted=counted)
    np.testing.assert_allclose(found[0], similarity(a[:1], b[:1])[0], rtol=1e-10)
    changed = np.where(counted, b, 7.0)
    np.testing.assert_allclose(similarity(a, changed, counted=counted), found, rtol=1e-10)
    assert abs(similarity(a, changed)[1] - found[1]) > 1e-3


@every_similarity
@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_map_is_like_no_other_and_has_a_gradient_of_zero(similarity, value, dtype):
    """Not even like itself: what a network without attributions shows must not read as robust."""
    constant, other = tf.fill([2, 7], tf.constant(value, dtype)), tf.constant(np.random.uniform(size=(2, 7)), dtype)
    for pair_of_maps in ((constant, constant), (constant, other), (other, constant)):
        with tf.GradientTape() as tape:
            tape.watch([constant, other])
            found = similarity(*pair_of_maps)
        np.testing.assert_array_equal(found, [0, 0])
        for gradient in tape.gradient(found, [constant, other], unconnected_gradients=tf.UnconnectedGradients.ZERO):
            np.testing.assert_array_equal(gradient, np.zeros((2, 7)))
    np.testing.assert_allclose(similarity(other, 3 * other), [1, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 0.0), ("temperature", -1.0), ("shifts", 0), ("shifts", 1.5)]
)
def test_settings_of_kendall_are_validated(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive"):
        keras_rar.KendallRegularizer(**{name: value})


# Margins across rank k


@pytest.mark.parametrize("pairs", [None, 1, 2, 9])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_margin_is_the_formula(k, pairs):
    a = np.random.default_rng(0).normal(size=(4, 2, 3))
    np.testing.assert_allclose(rank_margin(a, k, pairs), margin(a.reshape(4, 6), k, pairs), rtol=1e-12)
    np.testing.assert_allclose(rank_margin(-7 * a, k, pairs), rank_margin(a, k, pairs), rtol=1e-12)


def test_padding_has_no_part_in_a_margin():
    a = np.random.default_rng(0).normal(size=(2, 9))
    counted = np.arange(9) < [[9], [5]]
    np.testing.assert_allclose(rank_margin(a, 3, None, counted)[1], rank_margin(a[1:, :5], 3)[0], rtol=1e-12)
    np.testing.assert_allclose(rank_margin(a, 7, None, counted)[1], rank_margin(a[1:, :5], 4)[0], rtol=1e-12)
    assert abs(rank_margin(a, 3)[1] - rank_margin(a, 3, None, counted)[1]) > 1e-3


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_map_of_one_size_has_no_margin_and_a_finite_gradient(value):
    a = tf.fill([2, 6], tf.constant(value, tf.float64))
    with tf.GradientTape() as tape:
        tape.watch(a)
        found = rank_margin(a, 2)
    np.testing.assert_array_equal(found, [0, 0])
    assert np.isfinite(tape.gradient(found, a)).all()


@pytest.mark.parametrize("name", ["k", "pairs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_numbers_of_entries_are_counts(name, value):
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be a positive integer"):
        keras_rar.R2ETRegularizer(**{name: value})


def test_a_k_of_all_entries_is_refused_when_wrapped():
    with pytest.raises(ValueError, match=r"`k` must be below 4, the number of entries of an input\. Received: k=4"):
        keras_rar.wrap(dense_model(), "r2et", k=4)


def test_training_by_margins_widens_them():
    """Much more than plain training does; of the clean map, which is all that is promised."""
    x, y = batch(64, seed=4)
    found = []
    for factor in (0.0, 0.5):
        keras.utils.set_random_seed(1)
        model = wrapped("r2et", factor=factor, k=1, optimizer=keras.optimizers.Adam(0.02))
        model.fit(x, y, batch_size=32, epochs=30, verbose=0)
        found.append(rank_margin(By(model, y).logit_gradient(x.astype("float64")), 1).numpy().mean())
    assert found[1] > found[0] + 0.3
