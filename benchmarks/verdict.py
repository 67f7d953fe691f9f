"""Measure the networks of `benchmarks/networks.py` under the paper's protocol and under `strong`, on the same images.

`python benchmarks/verdict.py --networks FOLDER --out benchmarks/results/verdict`. It goes on where it was stopped.
"""

import argparse
import json
from pathlib import Path

import keras

import keras_rar
from keras_rar.paper import datasets

ROWS = {
    "cnn_natural": "NATURAL", "cnn_longer": "Madry", "cnn_ig_norm": "IG-NORM", "cnn_ig_sum_norm": "IG-SUM-NORM",
    "cnn_ig_topk": "IG-TOP-K", "resnet20_natural": "ResNet-20, natural", "resnet20_madry": "ResNet-20, Madry",
    "resnet20_ig_topk": "ResNet-20, IG-TOP-K",
}  # fmt: skip
MAPS = ("gradient", "gradient_x_input", "smoothgrad", keras_rar.IntegratedGradients(baseline=0.5))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=Path, default=Path("networks"))
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--protocols", nargs="+", choices=["paper", "strong"], default=["paper", "strong"])
    parser.add_argument("--images", type=int, default=1000, help="test images for the accuracies")
    parser.add_argument("--attacked", type=int, default=50, help="images whose maps are attacked")
    parser.add_argument("--name", default="cnn", help="of the files")
    parser.add_argument("--out", type=Path, default=Path("verdict"))
    arguments = parser.parse_args()
    _, (x, y) = datasets.load("fashion_mnist")
    x, y = x[: arguments.images], y[: arguments.images]
    networks = {
        ROWS[name]: keras.saving.load_model(file, compile=False)
        for name in arguments.only
        if (file := arguments.networks / f"{name}.keras").exists()
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for protocol in arguments.protocols:
        ball = {"dataset": "fashion_mnist"} if protocol == "paper" else {"epsilon": 0.1, "k": 100}
        folder = arguments.out / f"{arguments.name}-{protocol}"
        comparison = keras_rar.compare(
            networks, x, y, protocol=protocol, attacked=arguments.attacked, other_maps=MAPS, path=folder, **ball
        )
        (arguments.out / f"{arguments.name}-{protocol}.md").write_text(comparison.to_markdown() + "\n")
        content = {
            **json.loads(comparison.to_json()),
            "findings": {k: r.findings for k, r in comparison.reports.items()},
        }
        (arguments.out / f"{arguments.name}-{protocol}.json").write_text(json.dumps(content, indent=1) + "\n")
        print(comparison.to_markdown(), flush=True)


if __name__ == "__main__":
    main()
