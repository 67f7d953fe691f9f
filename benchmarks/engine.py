"""What an update costs: the engine against a straightforward nested-tape graph, its memory, its exponents.

Measurements run in processes of their own, after warm-up calls, and the contestants of a ratio take turns.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from machine import describe

PAPER = {"rule": "right", "m": 50, "attack_m": 10, "steps": 20, "step_size": 0.01, "beta": 0.1}
SIZES = {  # what is varied, the rest staying small
    "m": (10, 20, 40, 80),
    "steps": (2, 4, 8, 16),
    "batch": (16, 32, 64, 128),
    "size": (14, 28, 56),
}
BUDGET = 0.35  # gigabytes, of which the memory is measured
DTYPES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def build(dtype="float32", size=28, jit_compile="auto", **options):
    """The paper's network, and a model that trains it."""
    import keras

    import keras_rar
    from keras_rar.paper import networks

    keras.config.set_dtype_policy(DTYPES[dtype])
    keras.utils.set_random_seed(0)
    network = networks.cnn((size, size, 1))
    model = keras_rar.wrap(network, "ig_sum_norm", seed=0, **{**PAPER, **options})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss, jit_compile=jit_compile)
    return network, model


def data(batch=50, size=28):
    rng = np.random.default_rng(0)
    return rng.uniform(size=[batch, size, size, 1]).astype("float32"), rng.integers(0, 10, batch)


def straightforward(network, options, jit_compile=None):
    """One update as nested tapes over nodes folded into the batch: `(ascend, update)`, compiled; with XLA if asked."""
    import keras
    import tensorflow as tf

    epsilon, beta = 0.1, options["beta"]
    optimizer = keras.optimizers.Adam(1e-4)

    def losses(y, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(y, tf.cast(logits, tf.float32))

    def attributions(x, x_prime, y, m):
        alpha = tf.reshape(tf.range(1, m + 1, dtype=tf.float32) / m, [m, 1, 1, 1, 1])
        z = x + alpha * (x_prime - x)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = losses(tf.tile(y, [m]), network(tf.reshape(z, [-1, *x.shape[1:]])))
        return (x_prime - x) * tf.reduce_mean(tape.gradient(loss, z), axis=0)

    def objective(x, x_prime, y, m):
        size = tf.reduce_sum(tf.abs(attributions(x, x_prime, y, m)), axis=[1, 2, 3])
        return losses(y, network(x_prime)) + beta * size

    @tf.function(autograph=False, jit_compile=jit_compile)
    def ascend(x, y):
        def step(k, x_prime):
            with tf.GradientTape() as tape:
                tape.watch(x_prime)
                value = objective(x, x_prime, y, options["attack_m"])
            moved = x_prime + options["step_size"] * tf.sign(tape.gradient(value, x_prime))
            return k + 1, tf.clip_by_value(tf.clip_by_value(moved, x - epsilon, x + epsilon), 0, 1)

        start = tf.clip_by_value(x + tf.random.uniform(tf.shape(x), -epsilon, epsilon), 0, 1)
        steps = options["steps"]
        return tf.while_loop(lambda k, _: k < steps, step, (0, start), maximum_iterations=steps)[1]

    @tf.function(autograph=False, jit_compile=jit_compile)
    def update(x, y):
        x_star = tf.stop_gradient(ascend(x, y))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(objective(x, x_star, y, options["m"]))
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    optimizer.build(network.trainable_variables)
    return ascend, update


def bound(dtype, points):
    """Functions that each run one convolution or matrix product of an inner gradient, and how often it needs each.

    The first convolution is left out: at the paper's setting it need not be computed at every node.
    """
    import tensorflow as tf

    def random(*shape):
        return tf.cast(tf.random.normal(shape), dtype)

    images, kernel, maps = random(points, 14, 14, 32), random(5, 5, 32, 64), random(points, 14, 14, 64)
    rows, matrix, hidden = random(points, 3136), random(3136, 1024), random(points, 1024)
    operations = (
        lambda: tf.nn.conv2d(images, kernel, 1, "SAME"),
        lambda: tf.nn.conv2d_transpose(maps, kernel, images.shape, 1, "SAME"),
        lambda: tf.matmul(rows, matrix),
        lambda: tf.matmul(hidden, matrix, transpose_b=True),
    )
    return [(tf.function(operation, autograph=False), 2) for operation in operations]


def turns(contestants, rounds):
    """Seconds of each contestant, once a round, after two calls that do not count."""
    seconds = {name: [] for name in contestants}
    for turn in range(-2, rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def inner(dtype, rounds):
    """One inner gradient at the paper's setting: 10 nodes, batch 50."""
    x, y = data()
    steps = 5
    _, model = build(dtype, steps=steps)
    plain, _ = build("float32", steps=steps)
    ascend, _ = straightforward(plain, {**PAPER, "steps": steps})
    parts = bound(dtype, 50 * PAPER["attack_m"])

    def floor():
        for operation, times in parts:
            for _ in range(times):
                operation()

    contestants = {"nested tapes, float32": lambda: ascend(x, y), "engine": lambda: model.perturb(x, y), "bound": floor}
    seconds = turns(contestants, rounds)
    return {name: [s / (1 if name == "bound" else steps) for s in values] for name, values in seconds.items()}


def update(contestant, dtype, chunk="auto"):
    """One whole update at the paper's setting; alone in its process, as in a training."""
    x, y = data()
    network, model = build(dtype, chunk=chunk)
    step = model.train_on_batch if contestant == "engine" else straightforward(network, PAPER)[1]
    return float(np.median(turns({contestant: lambda: step(x, y)}, 3)[contestant]))


def cost(what, rounds):
    """An update with one size varied."""
    contestants = {}
    for value in SIZES[what]:
        small = {"m": 5, "attack_m": 1, "steps": 1, "batch": 32, "size": 28, what: value}
        if what == "steps":
            small["m"], small["attack_m"] = 1, 3
        batch, size = small.pop("batch"), small.pop("size")
        _, model = build("float32", size, **small)
        x, y = data(batch, size)
        contestants[str(value)] = lambda model=model, x=x, y=y: model.train_on_batch(x, y)
    return turns(contestants, rounds)


def memory(m, updates=3):
    """Peak resident memory of the whole process over a few updates, in GB; `m` of 0 is nested tapes with 50 nodes."""
    x, y = data()
    if m:
        _, model = build(m=m, steps=2, memory_budget=BUDGET)
        step = model.train_on_batch
    else:
        network, _ = build()
        step = straightforward(network, {**PAPER, "steps": 2})[1]
    for _ in range(updates):
        step(x, y)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def exponent(values, measured):
    """That of the power law through what was measured at these values."""
    return float(np.polyfit(np.log(values), np.log(measured), 1)[0])


JOBS = {"inner": inner, "update": update, "cost": cost, "memory": memory}


def separately(job, **arguments):
    """The result of a job in a process of its own."""
    command = [sys.executable, __file__, "--job", json.dumps([job, arguments])]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return json.loads(output.splitlines()[-1])


def spread(values):
    """Median, minimum and maximum."""
    return [float(np.median(values)), float(np.min(values)), float(np.max(values))]


def ratio(seconds, slow, fast):
    return spread(np.array(seconds[slow]) / np.array(seconds[fast]))


def show(label, values, unit):
    print(f"{label:58} {values[0]:7.2f} {unit:3} [{values[1]:.2f}, {values[2]:.2f}]", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=JOBS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job, options = json.loads(arguments.job)
        print(json.dumps(JOBS[job](**options)))
        return
    results = {"machine": describe()}
    rounds, tapes = arguments.rounds, "nested tapes, float32"
    if arguments.only in (None, "inner"):
        for dtype in DTYPES:
            seconds = separately("inner", dtype=dtype, rounds=rounds)
            found = {name: spread(values) for name, values in seconds.items()}
            found |= {
                "times faster": ratio(seconds, tapes, "engine"),
                "of the bound": ratio(seconds, "engine", "bound"),
            }
            results[f"inner gradient, {dtype}"] = found
            show(f"inner gradient, {dtype}: engine", found["engine"], "s")
            show("    times faster than nested tapes in float32", found["times faster"], "x")
            show("    in units of its convolutions and products", found["of the bound"], "x")
    if arguments.only in (None, "update"):
        seconds = {}
        contestants = {tapes: {"dtype": "float32"}}
        contestants |= {
            f"{dtype}, chunk={chunk}": {"dtype": dtype, "chunk": chunk} for dtype in DTYPES for chunk in ("auto", None)
        }
        for _ in range(max(1, rounds // 2)):
            for name, options in contestants.items():
                contestant = tapes if name == tapes else "engine"
                seconds.setdefault(name, []).append(separately("update", contestant=contestant, **options))
        for name in contestants:
            if name != tapes:
                found = {tapes: spread(seconds[tapes]), "engine": spread(seconds[name])}
                found["times faster"] = ratio(seconds, tapes, name)
                results[f"update, {name}"] = found
                show(f"update, {name}: engine", found["engine"], "s")
                show("    times faster than nested tapes in float32", found["times faster"], "x")
    if arguments.only in (None, "memory"):
        for m in (0, 10, 50, 200):
            name = f"peak memory, {f'm = {m}' if m else 'nested tapes, m = 50'}"
            results[name] = separately("memory", m=m)
            print(f"{name:58} {results[name]:7.2f} GB", flush=True)
    if arguments.only in (None, "cost"):
        for what, values in SIZES.items():
            seconds = {key: spread(times) for key, times in separately("cost", what=what, rounds=rounds).items()}
            medians = [seconds[str(value)][0] for value in values]
            power = exponent(values, medians)
            results[f"cost against {what}"] = {"seconds": seconds, "exponent": power}
            print(f"cost against {what}: exponent {power:.2f}, {[round(value, 3) for value in medians]} s", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
