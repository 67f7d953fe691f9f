"""The starts of an attack and its random steps, and the worst case over them."""

from collections.abc import Callable, Iterable

import tensorflow as tf

from keras_rar.attacks.watch import Watch
from keras_rar.core import attack_loop
from keras_rar.core.attack_loop import Kept
from keras_rar.core.row_draws import Block
from keras_rar.core.worst import choose


def random_direction(block: Block, x: tf.Tensor) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A `core.attack_loop.random_direction` whose numbers are those of a row in its block, whatever its batch.

    Args:
        block: Where the batch stands.
        x: Inputs, `(batch, ...)`.
    """

    def direction(k: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        def drawn(z: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            return attack_loop.random_direction(seed, tf.shape(z))(k, z)

        return block.drawn(drawn, x)

    return direction


def worst_case(
    run: Callable[..., tuple[tf.Tensor, ...]],
    x: tf.Tensor,
    y: tf.Tensor,
    starts: Iterable[tuple[tf.Tensor, Block]],
    *,
    unchanged: float,
    watch: Watch,
) -> dict[str, tf.Tensor]:
    """What was found for each example of a batch, by the start that found most.

    Args:
        run: The compiled attack: `run("look", x, y)` and `run("advance", x, y, …)`.
        x: Inputs.
        y: Classes.
        starts: Points to start at, each with the block that random steps are drawn in.
        unchanged: Similarity of a map with itself, which is what an example scores where no change is found.
        watch: Cuts the iterations into segments.
    """
    before, reference, predicted = run("look", x, y)
    nothing = Kept(x, tf.fill([len(x)], unchanged), tf.zeros([len(x)], tf.int32))
    worst, worst_restart = nothing, tf.zeros([len(x)], tf.int32)
    for restart, (x_prime, block) in enumerate(starts):
        kept = nothing
        for segment in watch.segments():
            first, last = (tf.constant(step) for step in segment)
            x_prime, kept = run("advance", x, y, before, reference, predicted, x_prime, kept, first, last, block)
            kept.iteration.numpy()  # a GPU answers before it has computed
        better = kept.similarity < worst.similarity
        worst = Kept(*(choose(better, new, old) for new, old in zip(kept, worst, strict=True)))
        worst_restart = tf.where(better, restart, worst_restart)
    after, *_ = run("look", worst.x, y)
    maps = {"map_before": before, "map_after": after}
    return {"x_adv": worst.x, "iteration": worst.iteration, "restart": worst_restart, **maps}
