"""Whether maps are faithful: deletion, insertion and infidelity beside a random map and the plain input.

    python benchmarks/faithful.py examples/networks/*.keras --out benchmarks/results/faithful.json

Integrated gradients from black, as their absolute values (the map that is shown) and signed, on the first test images.
"""

import argparse
import json
from pathlib import Path

import keras
from machine import describe

import keras_rar
from keras_rar.evaluation.intervals import mean_with_interval
from keras_rar.paper import datasets

MEASURES = ("deletion", "insertion", "infidelity")
NAMES = {"map": "IG", "signed": "IG, signed", "input": "the input", "random": "a random map"}


def measure(model, x, y):
    """Means with intervals of each map, and of the differences of IG and a control, image by image."""
    attributions = keras_rar.saliency_map(model, x, y, normalize=False)
    maps = keras_rar.saliency_map(model, x, y)
    found = keras_rar.metrics.faithfulness(model, x, maps, y, attributions=attributions)
    signed = attributions.sum(axis=-1)
    found["signed"] = {
        "deletion": keras_rar.metrics.deletion(model, x, signed, y),
        "insertion": keras_rar.metrics.insertion(model, x, signed, y),
        "infidelity": found["map"]["infidelity"],
    }
    rows = {NAMES[kind]: {name: mean_with_interval(found[kind][name]) for name in MEASURES} for kind in NAMES}
    for control in ("input", "random"):
        rows[f"IG − {NAMES[control]}"] = {
            name: mean_with_interval(found["map"][name] - found[control][name]) for name in MEASURES
        }
    return rows


def table(results):
    """The rows of the page on faithfulness."""
    lines = ["| network | map | deletion ↓ | insertion ↑ | infidelity ↓ |", "|---|---|---|---|---|"]
    for network, rows in results["networks"].items():
        for kind, row in rows.items():
            sign = "+" if "−" in kind else ""
            cells = [
                f"{row[name]['mean']:{sign}.3f} [{row[name]['low']:{sign}.3f}, {row[name]['high']:{sign}.3f}]"
                for name in MEASURES
            ]
            lines.append(f"| `{network}` | {kind} | {' | '.join(cells)} |".replace("-", "−"))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    x, y = (part[: arguments.images] for part in datasets.load("fashion_mnist_mini", "test"))
    results = {"machine": describe(), "images": len(x), "networks": {}}
    for path in sorted(arguments.models, key=lambda path: path.stem, reverse=True):
        results["networks"][path.stem] = measure(keras.saving.load_model(path, compile=False), x, y)
    print(table(results))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
