"""The engine on a GPU, with XLA and without: how exact its gradients are, and what an update costs.

Gradients, of ten images of noise and a network as it begins, are compared with nested tapes in float64 on the
processor. An update is that of engine.py, timed with its result fetched, the median of ten after two.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from engine import DTYPES, PAPER, build, data, spread, straightforward
from machine import describe

COMPILED = {"XLA": True, "no XLA": False}


def exact(rows):
    """Attributions of the paper's loss and the gradient of the mean objective, in float64 on the processor."""
    import keras
    import tensorflow as tf

    from keras_rar.paper import networks

    keras.config.set_dtype_policy("float64")
    x, x_prime, y, m = *(tf.constant(row) for row in rows), PAPER["m"]
    with tf.device("CPU"):
        keras.utils.set_random_seed(0)
        network = networks.cnn()
        x, x_prime = tf.cast(x, "float64"), tf.cast(x_prime, "float64")

        def losses(y, z):
            return tf.nn.sparse_softmax_cross_entropy_with_logits(y, network(z))

        with tf.GradientTape() as outer:
            total = 0.0
            for k in range(1, m + 1):
                z = x + k / m * (x_prime - x)
                with tf.GradientTape() as tape:
                    tape.watch(z)
                    value = losses(y, z)
                total += tape.gradient(value, z) / m
            maps = (x_prime - x) * total
            size = tf.reduce_sum(tf.abs(maps), axis=[1, 2, 3])
            objective = tf.reduce_mean(losses(y, x_prime) + PAPER["beta"] * size)
        return network.get_weights(), maps, outer.gradient(objective, network.trainable_variables)


def errors(weights, maps, gradients, rows, dtype, jit_compile):
    """Relative error of attributions and gradient, as norms of differences."""
    import tensorflow as tf

    network, model = build(dtype, jit_compile=jit_compile)
    network.set_weights(weights)

    @tf.function(autograph=False, jit_compile=jit_compile)
    def ours(x, x_prime, y):
        with tf.GradientTape() as tape:
            objective = tf.reduce_mean(model.objective(x, x_prime, y))
        return model.attributions(x, x_prime, y), tape.gradient(objective, network.trainable_variables)

    our_maps, our_gradients = ours(*(tf.constant(row) for row in rows))
    return [distance([our_maps], [maps]), distance(our_gradients, gradients)]


def distance(ours, exact):
    flat = [np.concatenate([np.ravel(np.asarray(part, "float64")) for part in parts]) for parts in (ours, exact)]
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


def seconds_and_memory(step, x, y, rounds=10):
    """Seconds until the first update, of the updates after two, and the peak of the GPU's memory in GB."""
    import tensorflow as tf

    gpu = tf.config.list_logical_devices("GPU")[0].name
    tf.config.experimental.reset_memory_stats(gpu)
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        np.asarray(step(x, y))
        times.append(time.perf_counter() - start)
    peak = tf.config.experimental.get_memory_info(gpu)["peak"] / 1e9
    return {"first": times[0], "update": spread(times[2:]), "gpu_memory_gb": peak}


def measure_errors(keep):
    """Of float32, TensorFloat-32 and bfloat16."""
    import tensorflow as tf

    x, y = data(10)
    shift = np.random.default_rng(1).uniform(-0.1, 0.1, x.shape)
    rows = x, np.clip(x + shift, 0, 1).astype("float32"), y
    reference = exact(rows)
    for name, dtype in (("float32", "float32"), ("TensorFloat-32", "float32"), ("bfloat16", "bfloat16")):
        tf.config.experimental.enable_tensor_float_32_execution(name != "float32")
        for compiled, jit_compile in COMPILED.items():
            keep("errors", f"{name}, {compiled}", errors(*reference, rows, dtype, jit_compile))


def measure_updates(batch, keep):
    """Of nested tapes and of the engine."""
    x, y = data(batch)
    for compiled, jit_compile in reversed(COMPILED.items()):
        network, _ = build()
        _, step = straightforward(network, PAPER, jit_compile)
        keep("updates", f"nested tapes, TensorFloat-32, {compiled}", seconds_and_memory(step, x, y))
    for dtype in DTYPES:
        for compiled, jit_compile in COMPILED.items():
            for chunk in ("auto", None):
                _, model = build(dtype, jit_compile=jit_compile, chunk=chunk)
                name = f"{dtype.replace('float32', 'TensorFloat-32')}, {compiled}, chunk={chunk}"
                keep("updates", name, seconds_and_memory(model.train_on_batch, x, y))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        parser.error("TensorFlow finds no GPU here")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    results = {"machine": {**describe(), "gpu": names}, "batch": arguments.batch, "errors": {}, "updates": {}}

    def keep(kind, name, value):
        results[kind][name] = value
        print(kind, name, value, flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(results, indent=2) + "\n")

    measure_errors(keep)
    measure_updates(arguments.batch, keep)


if __name__ == "__main__":
    main()
