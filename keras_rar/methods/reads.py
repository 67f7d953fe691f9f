"""What a method reads and reports, found before it trains."""

import dataclasses

import tensorflow as tf

from keras_rar.core.network_functions import Network
from keras_rar.core.terms import Terms
from keras_rar.methods.regularizer import AbstractAttributionRegularizer


@dataclasses.dataclass(frozen=True)
class Reads:
    """What a method reads and reports.

    Args:
        reported: Names of the terms that it reports.
        perturbs: Whether it depends on x′.
        ascent_reads_of_x: Names of the terms of x alone that are read where x′ ascends.
        ascent_integrates: Whether an IG or a gradient is read there.
        integrates: Whether an IG or a gradient is read anywhere.
        outline: The terms of the objective as a training step computes them, of a network of zeros.
    """

    reported: tuple[str, ...]
    perturbs: bool
    ascent_reads_of_x: frozenset[str]
    ascent_integrates: bool
    integrates: bool
    outline: Terms

    @property
    def compares_maps(self) -> bool:
        """Whether the objective reads the maps of both inputs."""
        return {"clean_map", "perturbed_map"} <= vars(self.outline).keys()


def probe(
    regularizer: AbstractAttributionRegularizer, input_shape: tuple, classes: int, by_rows: bool = False
) -> Reads:
    """What a method reads and reports, found by evaluating it on a network of zeros.

    Raises:
        ValueError: If the objective does not return one value per example.
    """
    network = Network(
        logits=lambda z, training: tf.zeros([tf.shape(z)[0], classes]),
        loss=lambda y, logits: logits[:, 0],
        label_logit=lambda y, logits: logits[:, 0],
        by_rows=by_rows,
        stands_in=True,
    )
    x = tf.zeros([2, *(size or 64 for size in input_shape)])  # an input of any size
    y = tf.zeros([2], tf.int32)
    terms = Terms(network, x, x, y, rule=regularizer.attack_rule, baseline=0.0)
    read = []
    for method in (regularizer.ascended, regularizer.objective):
        value = method(terms)
        read.append((terms.read_of_x, terms.integrated))
        if not tf.is_tensor(value) or value.shape != (2,):
            shape = getattr(value, "shape", None)
            raise ValueError(
                f"`{type(regularizer).__name__}.{method.__name__}` must return one value per example, of shape "
                f"(batch,). Received, for a batch of 2: {type(value).__name__} of shape {shape}"
            )
    if "loss" in terms.reported:
        raise ValueError('A term must not be reported as "loss", the name of the whole objective.')
    outline = Terms(network, x, tf.ones_like(x), y, rule=regularizer.attack_rule, training=True)
    regularizer.objective(outline)
    outline.ensure_classified()
    return Reads(tuple(terms.reported), terms.depends_on_x_prime, *read[0], terms.integrated, outline)
