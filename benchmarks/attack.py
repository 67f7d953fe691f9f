"""What the attribution attack costs an image: one image at a time against batches, and against chunks of nodes.

Each row runs in a process of its own, after a warm-up of one step, so that its peak memory is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from machine import describe

VARIANTS = {  # name -> (batch size, nodes evaluated at once)
    "one image at a time, all nodes": (1, None),
    "batch 4, all nodes": (4, None),
    "batch 20, all nodes": (20, None),
    "batch 20, 20 nodes": (20, 20),
    "batch 20, auto": (20, "auto"),
}


def measure(batch_size, chunk, images, steps, m):
    import numpy as np

    from keras_rar.attacks import TopKAttack
    from keras_rar.paper import datasets, networks

    network = networks.cnn()
    x = datasets.load("fashion_mnist_mini")[1][0][:images]
    y = network.predict(x, verbose=0).argmax(axis=1)
    options = {"m": m, "batch_size": batch_size, "chunk": chunk, "step_size": 0.01}
    attack = TopKAttack(100, 0.1, steps=steps, **options)
    attack.steps = 1
    attack(network, x[:batch_size], y[:batch_size])  # oneDNN and the allocator are warm
    attack = TopKAttack(100, 0.1, steps=steps, **options)
    seconds = []
    for rows in range(0, images, batch_size):
        start = time.perf_counter()
        attack(network, x[rows : rows + batch_size], y[rows : rows + batch_size])
        seconds.append(time.perf_counter() - start)
    seconds = seconds[1:] or seconds  # the first holds the tracing
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds_an_image": float(np.median(seconds)) / batch_size, "peak_gb": peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--m", type=int, default=100)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = (arguments.images, arguments.steps, arguments.m)
    if arguments.variant:
        print(json.dumps(measure(*VARIANTS[arguments.variant], *settings)))
        return
    rows = {}
    for name in VARIANTS:
        command = [sys.executable, __file__, "--variant", name]
        command += [f"--{key}={value}" for key, value in zip(("images", "steps", "m"), settings, strict=True)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
        rows[name] = json.loads(output.splitlines()[-1])
        row = rows[name]
        first = next(iter(rows.values()))["seconds_an_image"]
        speed = first / row["seconds_an_image"]
        print(f"{name:32} {row['seconds_an_image']:8.2f} s an image {speed:6.2f} x {row['peak_gb']:6.2f} GB")
    if arguments.out:
        content = {"machine": describe(), "images": settings[0], "steps": settings[1], "m": settings[2], "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
