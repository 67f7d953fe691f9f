"""What fewer steps of the inner maximum and fewer nodes cost: short trainings with each, of several seeds.

    python benchmarks/fewer.py --out benchmarks/results/fewer.jsonl
    python benchmarks/fewer.py --table --out benchmarks/results/fewer.jsonl

The small network of `examples/try_train.py`, trained in its way on the 6,000 images in the package, and measured on
1,000 others of the training set: settings are chosen here. It goes on where it was stopped; the table has the means
over seeds, and their differences from the first row of the method, seed by seed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_rar
from keras_rar.paper import datasets

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import try_train

MEASURES = ("natural_accuracy", "adversarial_accuracy", "topk_intersection", "kendall_tau")
LATE = {"begin": 0.8}
TRIALS = {
    "madry, 5 steps": ("madry", {"steps": 5}),
    "madry, 2 steps": ("madry", {"steps": 2}),
    "ig_sum_norm, 5 steps, 3 nodes": ("ig_sum_norm", {"steps": 5, "m": 3, **LATE}),
    "ig_sum_norm, 2 steps, 2 nodes": ("ig_sum_norm", {"steps": 2, "m": 2, **LATE}),
    "ig_sum_norm, 2 steps, 1 node": ("ig_sum_norm", {"steps": 2, "m": 1, **LATE}),
    "ig_topk, 5 steps, 2 nodes": ("ig_topk", {"steps": 5, "m": 2, **LATE}),
    "ig_topk, 2 steps, 2 nodes": ("ig_topk", {"steps": 2, "m": 2, **LATE}),
    "ig_topk, 2 steps, 1 node": ("ig_topk", {"steps": 2, "m": 1, **LATE}),
}


def others():
    """1,000 training images that are not among those of the package."""
    (mini, _), _ = datasets.load("fashion_mnist_mini")
    x, y = datasets.load("fashion_mnist", "train")
    known = {image.tobytes() for image in np.asarray(mini, "float32")}
    rows = [row for row in range(6000) if np.asarray(x[row], "float32").tobytes() not in known][:1000]
    return x[rows], y[rows]


def trial(method, options, seed):
    (x, y), _ = datasets.load("fashion_mnist_mini")
    network = try_train.small_cnn(seed)
    model = keras_rar.wrap(network, method, epsilon=0.1, seed=seed, **options)
    rate = keras.optimizers.schedules.CosineDecayRestarts(2e-3, 0.8 * 10 * len(x) / 50, t_mul=0.25)
    model.compile(keras.optimizers.Adam(rate), try_train.LOSS)
    model.train_on_batch(x[:50], y[:50])  # traced apart from the time
    start = time.process_time()
    model.fit(x, y, batch_size=50, epochs=10, verbose=0)
    seconds = time.process_time() - start
    settings = {"epsilon": 0.1, "steps": 30, "m": 10, "k": 100, "attacked": 100, "noise": 0, "faithful": 0}
    report = keras_rar.evaluate_robustness(network, *others(), **settings, other_maps=(), progress=False)
    summary = report.summary()
    return {"seconds": round(seconds, 1), **{measure: summary[measure]["mean"] for measure in MEASURES}}


def table(rows):
    lines = ["| | seeds | processor seconds | natural | adversarial | top-k | Kendall |", "|---" * 7 + "|"]
    first = {}
    for name, (method, _) in TRIALS.items():
        found = {row["seed"]: row for row in rows if row["trial"] == name}
        base = first.setdefault(method, found)
        if not found:
            continue
        cells = [name, str(len(found)), f"{np.mean([row['seconds'] for row in found.values()]):.0f}"]
        for measure in MEASURES:
            values = {seed: row[measure] for seed, row in found.items()}
            cell = f"{np.mean(list(values.values())):.3f}"
            both = sorted(set(values) & set(base)) if found is not base else []
            if both:
                change = np.array([values[seed] - base[seed][measure] for seed in both])
                cell += f" ({change.mean():+.3f}: {', '.join(f'{value:+.3f}' for value in change)})"
            cells.append(cell)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("fewer.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="print what the file holds, run nothing")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    for seed in () if arguments.table else arguments.seeds:
        for name, (method, options) in TRIALS.items():
            if not any(row["trial"] == name and row["seed"] == seed for row in rows):
                rows.append({"trial": name, "seed": seed, "options": options, **trial(method, options, seed)})
                with arguments.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
