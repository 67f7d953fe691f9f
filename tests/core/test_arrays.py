"""Every function of the core takes NumPy arrays as it takes tensors, and refuses integers where it takes gradients."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import tensorflow as tf

import keras_rar.core
from keras_rar.core import (
    ablation,
    accumulation,
    adaptive,
    affine_maps,
    apgd,
    ascent,
    attack_loop,
    class_contrasts,
    class_probabilities,
    closed_forms,
    correlations,
    directions,
    expected_gradients,
    gradients,
    graphs,
    held,
    integration,
    l1_ball,
    label_sets,
    labels,
    map_objectives,
    map_priors,
    map_search,
    maps,
    mass_centers,
    neighborhoods,
    network_functions,
    occlusion,
    padded,
    pooling,
    prices,
    quadrature,
    random_search,
    rank_margins,
    ratios,
    saliency_methods,
    segment_starts,
    sizes,
    smoothing,
    soft_correlations,
    terms,
    top_sets,
    worst,
)

RULE = quadrature.midpoint(2)
BALLS = {
    "LinfBall": neighborhoods.LinfBall(0.5),
    "L2Ball": neighborhoods.L2Ball(0.5),
    "L0Ball": neighborhoods.L0Ball(1),
    "L1Ball": l1_ball.L1Ball(0.5),
}
SEED = np.array([0, 1])
HELD = held.HeldBall(neighborhoods.L2Ball(0.5), held.Columns(2))


def f(z):
    return tf.reduce_sum(z**3, axis=list(range(1, z.shape.rank)))


LAYERED = gradients.Layered(lambda z: z**2, f)


def images(m):
    """Maps of one row."""
    return [[row] for row in m] if isinstance(m, list) else m[:, None]


def loop(x, start, kept, attack=attack_loop.attack, **which):
    given = attack_loop.Kept(kept, [0.0, 0.0] if isinstance(kept, list) else kept[:, 0], np.zeros(2, "int32"))
    return attack(
        x,
        start,
        given,
        direction=lambda k, z: tf.ones_like(z),
        similarity=lambda z: -f(z),
        allowed=lambda z: f(z) >= 0,
        neighborhood=BALLS["LinfBall"],
        steps=2,
        step_size=0.1,
        **which,
    )


def network():
    loss = lambda y, z: tf.cast(y, z.dtype) * z[:, 0] ** 2  # noqa: E731
    return network_functions.Network(lambda z, training: z, loss, loss)


def objective_of(x, x_prime):
    return terms.Terms(network(), x, x_prime, np.array([1, 2]), rule=RULE)


def climb(x, start):
    return ascent.projected_ascent(f, x, start, BALLS["L2Ball"], steps=2, step_size=0.1)


def of_kept(x, value):
    """What is kept of such numbers."""
    return attack_loop.Kept(x, [0.0, 0.0] if isinstance(value, list) else value[:, 0], np.zeros(2, "int32"))


def evaluate(k, z):
    return f(z), 3 * z**2, -f(z)


def auto_pgd(x, start, kept):
    state = apgd.begin(start, of_kept(kept, kept), evaluate, 0.2)
    return apgd.advance(x, *state, evaluate=evaluate, neighborhood=BALLS["L2Ball"], first=0, last=2, steps=2)[1].x


def search(x):
    options = {"propose": lambda k, z: 2 * z, "similarity": lambda z: -f(z), "first": 0, "last": 2, "steps": 2}
    return random_search.search(of_kept(x, x), **options).x


def adapting(x):
    climb = adaptive.Climb.begun(x, x, [True, True], 0.1)
    return adaptive.ascend(
        x,
        climb,
        worst.Worst.nothing(x, 1),
        objective=lambda k, z: (f(z), tf.ones_like(z)),
        similarities=lambda z: -f(z)[None],
        allowed=lambda z: f(z) >= 0,
        neighborhood=BALLS["LinfBall"],
        first=0,
        last=2,
        steps=2,
    )[0].x


def searching(x, parent):
    return map_search.search(
        x,
        parent,
        tf.ones([2]),
        worst.Worst.nothing(x, 1),
        propose=lambda k, z: z,
        similarities=lambda z: -tf.cast(f(z), tf.float32)[None],
        allowed=lambda z: f(z) >= 0,
        neighborhood=BALLS["LinfBall"],
        first=0,
        last=1,
        steps=1,
    )[0]


def plateau(k, z):
    return tf.zeros_like(z)


# A function, by its module and name, and a call for each group of arguments that hold numbers: arrays (2, 3).
TAKES_GRADIENTS = {
    "closed_forms.elementwise": lambda x: closed_forms.elementwise(lambda z: z, tf.ones_like, tf.zeros_like)(x),
    "closed_forms.gelu": lambda x: closed_forms.gelu(x),
    "closed_forms.silu": lambda x: closed_forms.silu(x),
    "closed_forms.normalized": lambda x: closed_forms.normalized(x, [1], 1e-3),
    "affine_maps.with_derivatives": lambda x: affine_maps.with_derivatives(lambda z: 2 * z)(x),
    "ablation.ablated_scores": lambda x: ablation.ablated_scores(f, x, 0.0, np.ones((2, 1, 3), bool)),
    "accumulation.weighted_gradients": lambda x: accumulation.weighted_gradients(f, lambda ks, x: x[None], (x,), [1.0]),
    "accumulation.gradients_and_values": lambda x: accumulation.gradients_and_values(
        f, lambda ks, x: x[None], (x,), [1.0]
    )[1],
    "accumulation.folded": lambda z: tf.identity(accumulation.folded(gradients.floating("z", z)[:, None])),
    "accumulation.weighted_sum": lambda x: accumulation.weighted_sum(
        lambda ks, x: (f(x)[None], x[None]), (x,), [1.0], lambda: x
    )[0],
    "apgd.begin": lambda start, kept: apgd.begin(start, of_kept(kept, kept), evaluate, 0.2)[1].x,
    "apgd.advance": auto_pgd,
    "adaptive.Climb.begun": lambda x, start: adaptive.Climb.begun(x, start, [True, True], 0.1).x,
    "adaptive.ascend": adapting,
    "ascent.projected_ascent": climb,
    "attack_loop.attack": lambda x, start, kept: loop(x, start, kept).x,
    "attack_loop.advance": lambda x, x_prime, kept: loop(x, x_prime, kept, attack_loop.advance, first=0, last=1)[0],
    "attack_loop.as_tensors": lambda x: attack_loop.as_tensors(of_kept(x, x)).x,
    "attack_loop.map_gradient": lambda x, before: attack_loop.map_gradient(
        map_objectives.topk(1), before, lambda z: z**2
    )(0, x),
    "attack_loop.unless_zero": lambda x: attack_loop.unless_zero(plateau, attack_loop.random_direction(SEED, [2, 3]))(
        0, x
    ),
    "attack_loop.random_direction": lambda x: attack_loop.random_direction(SEED, [2, 3])(1, x),
    "segment_starts.start_of": lambda x: segment_starts.start_of([0.5, None, 0.0], x),
    "class_contrasts.divergence_from_uniform": lambda a: class_contrasts.divergence_from_uniform(a),
    "class_contrasts.weighted_change": class_contrasts.weighted_change,
    "class_probabilities.of_classes": lambda logits: class_probabilities.of_classes(logits),
    "class_probabilities.kl_divergence": class_probabilities.kl_divergence,
    "class_probabilities.label_rows": lambda logits: class_probabilities.label_rows(np.array([0, 2]), logits),
    "class_probabilities.label_probability": lambda logits: class_probabilities.label_probability([0, 2], logits),
    "class_probabilities.runner_up_logit": lambda logits: class_probabilities.runner_up_logit([0, 2], logits),
    "class_probabilities.runner_up_probability": lambda logits: class_probabilities.runner_up_probability(
        [0, 2], logits
    ),
    "class_probabilities.runner_up_loss": lambda logits: class_probabilities.runner_up_loss([0, 2], logits),
    "directions.defined": lambda gradient, noise: directions.defined(gradient, noise),
    "directions.leading": lambda gradient, noise: directions.leading(gradient, noise),
    "directions.unless_undefined": lambda x: directions.unless_undefined(
        plateau, attack_loop.random_direction(SEED, [2, 3])
    )(0, x),
    "gradients.Staged": lambda x: gradients.Staged(lambda z: 2.0 * z, f)(x),
    "gradients.Layered": lambda x: LAYERED(x),
    "gradients.value_and_product": lambda x, v: gradients.value_and_product(LAYERED, x, v)[1],
    "gradients.floating": lambda x: gradients.floating("x", x),
    "gradients.input_gradient": lambda x: gradients.input_gradient(f, x),
    "gradients.value_and_gradient": lambda x: gradients.value_and_gradient(f, x)[0],
    "integration.integrated_gradients": lambda x, x_prime: integration.integrated_gradients(f, x, x_prime, RULE),
    "integration.attributions_and_values": lambda x, x_prime: integration.attributions_and_values(f, x, x_prime, RULE)[
        1
    ],
    "integration.completeness_gap": lambda x, x_prime, a: integration.completeness_gap(f, x, x_prime, a),
    "label_sets.binary_crossentropy": lambda logits: label_sets.binary_crossentropy([0, 2], logits),
    "label_sets.margin": lambda logits: label_sets.margin([0, 2], logits),
    "label_sets.signed": lambda logits: label_sets.signed([0, 2], logits),
    "labels.label_logit": lambda logits: labels.label_logit(np.array([0, 2]), logits),
    "map_objectives.topk": lambda before, after: map_objectives.topk(2)(before, after),
    "map_objectives.rank": map_objectives.rank,
    "map_objectives.mass_center": lambda a, b: map_objectives.mass_center(images(a), images(b)),
    "map_objectives.target": lambda after: map_objectives.target(np.ones(3))(after, after),
    "prices.squared_l2": lambda x, x_prime: prices.squared_l2(x, x_prime),
    "prices.squared_linf": lambda x, x_prime: prices.squared_linf(x, x_prime),
    "prices.priced_ascent": lambda x, start: prices.priced_ascent(
        f, x, start, BALLS["L2Ball"], gamma=4.0, cost="linf", steps=2
    ),
    "neighborhoods.LinfBall.sample": lambda x: BALLS["LinfBall"].sample(x, SEED),
    "neighborhoods.LinfBall.steepest": lambda x: BALLS["LinfBall"].steepest(x),
    "neighborhoods.LinfBall.project": lambda x, x_prime: BALLS["LinfBall"].project(x, x_prime),
    "neighborhoods.LinfBall.clip": lambda x: BALLS["LinfBall"].clip(x),
    "neighborhoods.L2Ball.sample": lambda x: BALLS["L2Ball"].sample(x, SEED),
    "neighborhoods.L2Ball.steepest": lambda x: BALLS["L2Ball"].steepest(x),
    "neighborhoods.L2Ball.project": lambda x, x_prime: BALLS["L2Ball"].project(x, x_prime),
    "neighborhoods.L2Ball.clip": lambda x: neighborhoods.L2Ball(0.5, bounds=None).clip(x),
    "l1_ball.L1Ball.sample": lambda x: BALLS["L1Ball"].sample(x, SEED),
    "l1_ball.L1Ball.steepest": lambda x: BALLS["L1Ball"].steepest(x),
    "l1_ball.L1Ball.open": lambda x_prime, gradient: BALLS["L1Ball"].open(x_prime, gradient),
    "l1_ball.L1Ball.project": lambda x, x_prime: BALLS["L1Ball"].project(x, x_prime),
    "l1_ball.L1Ball.clip": lambda x: BALLS["L1Ball"].clip(x),
    "neighborhoods.L0Ball.sample": lambda x: BALLS["L0Ball"].sample(x, SEED),
    "neighborhoods.L0Ball.steepest": lambda x: BALLS["L0Ball"].steepest(x),
    "neighborhoods.L0Ball.project": lambda x, x_prime: BALLS["L0Ball"].project(x, x_prime),
    "neighborhoods.L0Ball.clip": lambda x: BALLS["L0Ball"].clip(x),
    "held.Held": lambda x: held.Held(f, held.Columns(2))(x),
    "held.HeldBall.sample": lambda x: HELD.sample(x, SEED),
    "held.HeldBall.steepest": lambda gradient: HELD.steepest(gradient),
    "held.HeldBall.project": lambda x, x_prime: HELD.project(x, x_prime),
    "held.HeldBall.clip": lambda x_prime: HELD.clip(x_prime),
    "held.Columns.joined": lambda h, x: held.Columns(3).joined(h, x),
    "held.Columns.start": lambda x: held.Columns(2).start(0.5, x),
    "pooling.max_pool": lambda x: pooling.max_pool(images(images(x)), (1, 1)),
    "random_search.search": search,
    "map_priors.gini": lambda a: map_priors.gini(a),
    "map_priors.negative_gini": lambda a: map_priors.negative_gini(a),
    "map_priors.total_variation": lambda a: map_priors.total_variation(a),
    "rank_margins.rank_margin": lambda a: rank_margins.rank_margin(a, 1),
    "ratios.difference_ratio": lambda margins, logits: ratios.difference_ratio(
        [row[0] for row in margins] if isinstance(margins, list) else margins[:, 0], logits
    ),
    "map_search.mutation": lambda parent: map_search.mutation(SEED, [0, 1], BALLS["LinfBall"], 0.5, 5)(0, parent),
    "map_search.noise": lambda x: map_search.noise(x, SEED, [0, 1], BALLS["LinfBall"], 0.5)(0, x),
    "map_search.search": searching,
    "expected_gradients.ExpectedGradients": lambda x: expected_gradients.ExpectedGradients(0.5, RULE)(f, x),
    "occlusion.Occlusion": lambda x: occlusion.Occlusion()(f, x),
    "saliency_methods.IntegratedGradients": lambda x: saliency_methods.IntegratedGradients(RULE)(f, x),
    "saliency_methods.IntegratedGradients.between": lambda start, x: saliency_methods.IntegratedGradients(RULE).between(
        f, start, x
    ),
    "saliency_methods.Gradient": lambda x: saliency_methods.Gradient()(f, x),
    "saliency_methods.GradientTimesInput": lambda x: saliency_methods.GradientTimesInput()(f, x),
    "saliency_methods.SmoothGrad": lambda x: saliency_methods.SmoothGrad(3)(f, x),
    "saliency_methods.normalize_map": lambda a: saliency_methods.normalize_map(a),
    "sizes.absolute_total": sizes.absolute_total,
    "sizes.cosine": sizes.cosine,
    "sizes.l1_norm": sizes.l1_norm,
    "sizes.per_example": sizes.per_example,
    "sizes.power": lambda a: sizes.power(a, 2),
    "sizes.soft_top_k": lambda a: sizes.soft_top_k(a, 1),
    "sizes.tempered": lambda a: sizes.tempered(a, 0.5),
    "sizes.total": sizes.total,
    "sizes.total_plus_l1": lambda a: sizes.total_plus_l1(a, 0.1),
    "soft_correlations.correlation": lambda a, b: soft_correlations.correlation(a, b),
    "soft_correlations.soft_kendall": lambda a, b: soft_correlations.soft_kendall(a, b),
    "smoothing.Gaussian.draw": lambda x: smoothing.Gaussian(0.5, 3).draw(x, SEED),
    "smoothing.UniformBall.draw": lambda x: smoothing.UniformBall(0.5, 3).draw(x, SEED),
    "terms.Terms": lambda x, x_prime: objective_of(x, x_prime).attributions,
    "terms.Terms.random_signs": lambda x: objective_of(x, x).random_signs(),
    "terms.Terms.gradient_at": lambda x, z: objective_of(x, x).gradient_at(z),
    "terms.Terms.at": lambda x, x_prime: objective_of(x, x).at(x_prime).perturbed_loss,
    "worst.Worst.nothing": lambda x: worst.Worst.nothing(x, 1).x,
    "worst.Worst.updated": lambda x: worst.Worst.nothing(x, 1).updated(x, [[0.0, 2.0]], [True, True], 1).x,
    "worst.normal_by_rows": lambda like: worst.normal_by_rows(SEED, [0, 1], like),
    "worst.sample_by_rows": lambda x: worst.sample_by_rows(BALLS["L2Ball"], x, SEED, [0, 1]),
}
TAKES_ANY_NUMBERS = {
    "ablation.curve_area": lambda curve: ablation.curve_area(curve, np.arange(3)),
    "ablation.infidelity": lambda attributions, subsets, changes: ablation.infidelity(
        attributions, subsets, changes[:, :2] if not isinstance(changes, list) else [row[:2] for row in changes]
    ),
    "ablation.removal_ranks": ablation.removal_ranks,
    "correlations.cosine_similarity": correlations.cosine_similarity,
    "correlations.kendall_tau_b": correlations.kendall_tau_b,
    "correlations.pearson": correlations.pearson,
    "correlations.spearman_rho": correlations.spearman_rho,
    "gradients.repeat_labels": lambda y: gradients.repeat_labels(y, 4),
    "graphs.in_parts": lambda x: graphs.in_parts(lambda z: z + z, [x], 1),
    "graphs.known_as": lambda x: graphs.known_as(x, [None, 3]),
    "graphs.of_unknown_batch": graphs.of_unknown_batch,
    "label_sets.code": label_sets.code,
    "label_sets.leading": lambda logits: label_sets.leading([0, label_sets.FIRST], logits),
    "label_sets.members": lambda codes: label_sets.members(tf.convert_to_tensor(codes)[:, 0], 3),
    "labels.are_indices": lambda y: labels.are_indices(y, 3),
    "labels.check_layout": lambda y: labels.check_layout(y, 3),
    "labels.replace_invalid": lambda y: labels.replace_invalid(y, 3),
    "labels.valid": lambda y: labels.valid(y, 3),
    "maps.as_map": lambda m: maps.as_map("m", m),
    "maps.pair": lambda a, b: maps.pair(a, b)[0],
    "mass_centers.mass_center": lambda m: mass_centers.mass_center(images(m)),
    "mass_centers.mass_center_distance": lambda a, b: mass_centers.mass_center_distance(images(a), images(b)),
    "padded.padded_kendall": padded.padded_kendall,
    "padded.padded_spearman": padded.padded_spearman,
    "padded.padded_topk": lambda a, b: padded.padded_topk(a, b, 2),
    "top_sets.topk_intersection": lambda a, b: top_sets.topk_intersection(a, b, 2),
    "top_sets.local_topk_intersection": lambda a, b: top_sets.local_topk_intersection(images(a), images(b), 2),
    "worst.choose": lambda new, old: worst.choose([True, False], new, old),
}
TAKES_NO_NUMBERS = {
    "ablation.random_subsets": "of a shape",
    "ablation.stages": "of sizes",
    "abstract_ball.Neighborhood": "abstract",
    "apgd.Climb": "a tuple",
    "apgd.checkpoints": "of a number of steps",
    "adaptive.checkpoints": "of a number of iterations",
    "adaptive.Climb.changed": "of tensors of a loop",
    "attack_loop.Kept": "a tuple",
    "attack_loop.improved": "of tensors that `as_tensors` made",
    "attack_loop.of_examples": "of tensors of a loop",
    "segment_starts.is_itself": "of arrays alone",
    "segment_starts.starts_of": "of arrays alone",
    "graphs.body": "of a function",
    "graphs.loop": "of a function",
    "graphs.outside": "of a function",
    "accumulation.summed": "of a function",
    "graphs.sums_in_parts": "of a function",
    "label_sets.indices": "of one number",
    "memory.*": "of sizes",
    "abstract_saliency.chunk_size": "of sizes",
    "abstract_saliency.points_at_once": "of sizes",
    "neighborhoods.get": "of a name",
    "other_pixels.*": "of tensors of a search",
    "proposals.*": "of tensors of a search",
    "quadrature.*": "of names and numbers of nodes",
    "channels.*": "of shapes",
    "replicas.*": "of examples of a batch, whatever they are",
    "ratios.targeted_ratio": "like the other ratio, of four classes or more",
    "row_draws.*": "of random numbers",
    "squares.*": "of tensors of a search",
    "abstract_saliency.Saliency": "abstract",
    "network_maps.*": "of scores of a network",
    "certificates.*": "of arrays alone, in float64: of bounds, counts and radii, not of maps",
    "evaluations.draws": "of numbers",
    "sizes.highest_k": "of a shape",
    "sizes.k_of": "of numbers of entries",
    "smoothing.Smoothing": "abstract",
    "network_functions.*": "of functions",
    "evaluations.Evaluations": "the part of `terms.Terms` that keeps nothing",
    "top_sets.odd_window": "of one number",
    "worst.by_rows": "of a function",
    "checks.*": "settings",
    "keywords.*": "names of settings",
    "discrete.*": "of arrays alone: of the data, not of maps",
    "files.*": "paths",
    "kendall_host.*": "of arrays alone: the part of `correlations` that NumPy computes",
    "maps.*": "of tensors that `maps.pair` made",
    "orders.*": "of tensors that `maps.pair` made",
    "held.columns_of": "of a function",
    "held.HeldProposals": "of tensors of a search",
}
every_function = pytest.mark.parametrize("name", TAKES_GRADIENTS | TAKES_ANY_NUMBERS)


def arguments(call, seed=0):
    """An array of floats for each argument, in [0, 1] and all different."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(size=(2, 3)) for _ in inspect.signature(call).parameters]


def test_the_table_names_every_function_of_the_core():
    known = {*TAKES_GRADIENTS, *TAKES_ANY_NUMBERS, *TAKES_NO_NUMBERS}
    known |= {name.rsplit(".", 1)[0] for name in known if name.count(".") == 2}
    for found in pkgutil.iter_modules(keras_rar.core.__path__):
        module = importlib.import_module(f"keras_rar.core.{found.name}")
        for name, value in vars(module).items():
            if inspect.isroutine(value) or inspect.isclass(value):
                is_own = getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
                assert not is_own or known & {f"{found.name}.{name}", f"{found.name}.*"}, f"{found.name}.{name}"


def test_the_table_names_nothing_else():
    for name in (*TAKES_GRADIENTS, *TAKES_ANY_NUMBERS, *TAKES_NO_NUMBERS):
        module, *path = name.split(".")
        value = importlib.import_module(f"keras_rar.core.{module}")
        for part in path:
            value = value if part == "*" else getattr(value, part)


@every_function
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_give_what_tensors_give_in_their_precision(name, dtype):
    call = (TAKES_GRADIENTS | TAKES_ANY_NUMBERS)[name]
    arrays = [array.astype(dtype) for array in arguments(call)]
    found, expected = call(*arrays), call(*(tf.constant(array) for array in arrays))
    np.testing.assert_array_equal(found, expected)
    if name in TAKES_GRADIENTS:
        assert found.dtype == dtype


@every_function
def test_nested_lists_of_floats_are_float32(name):
    call = (TAKES_GRADIENTS | TAKES_ANY_NUMBERS)[name]
    arrays = arguments(call)
    np.testing.assert_array_equal(call(*(a.tolist() for a in arrays)), call(*(a.astype("float32") for a in arrays)))


INTEGERS = {
    "int64": lambda a: np.ones(a.shape, "int64"),
    "bool": lambda a: np.ones(a.shape, bool),
    "tensor": lambda a: tf.ones(a.shape, tf.int32),
    "list": lambda a: np.ones(a.shape, "int64").tolist(),
}


@pytest.mark.parametrize("name", TAKES_GRADIENTS)
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_are_refused_where_gradients_are_taken(name, kind):
    """In each argument alone."""
    call = TAKES_GRADIENTS[name]
    for place in range(len(arguments(call))):
        given = arguments(call)
        given[place] = INTEGERS[kind](given[place])
        with pytest.raises(TypeError, match=r"^`\w+` must be floating point, to have gradients\. Received: dtype=\w+$"):
            call(*given)


@pytest.mark.parametrize("name", TAKES_ANY_NUMBERS)
def test_integers_are_numbers_where_no_gradient_is_taken(name):
    call = TAKES_ANY_NUMBERS[name]
    whole = [np.round(2 * array) for array in arguments(call)]
    np.testing.assert_array_equal(call(*(array.astype("int64") for array in whole)), call(*whole))
