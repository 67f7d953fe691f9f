"""Measure trained networks under the paper's protocol and under `strong`, on the same images of Fashion-MNIST.

The small networks of `examples/try_train.py`, and those of `benchmarks/networks.py`:

    python examples/try_train.py --out FOLDER
    python benchmarks/verdict.py small --networks FOLDER --out benchmarks/results/verdict
    python benchmarks/networks.py cnn_natural cnn_madry cnn_longer cnn_ig_topk --out FOLDER
    python benchmarks/verdict.py cnn --networks FOLDER --out benchmarks/results/verdict

It goes on where it was stopped. `--alone` measures each network on the first images that it gets right itself, so that
what else is in the folder decides nothing, and without paired differences. The small networks were trained on the part
of the data set that is in the package, and are measured on the test images there.
"""

import argparse
import json
from pathlib import Path

import keras

import keras_rar
from keras_rar.core.saliency_methods import IntegratedGradients
from keras_rar.evaluation import intervals
from keras_rar.paper import datasets

ROWS = {
    "small": {
        "natural": "NATURAL", "madry": "Madry", "ig_norm": "IG-NORM", "ig_sum_norm": "IG-SUM-NORM",
        "ig_topk": "IG-TOP-K",
    },
    "cnn": {
        "cnn_natural": "NATURAL", "cnn_longer": "Madry", "cnn_ig_norm": "IG-NORM", "cnn_ig_sum_norm": "IG-SUM-NORM",
        "cnn_ig_topk": "IG-TOP-K",
    },
    "resnet20": {
        "resnet20_natural": "NATURAL", "resnet20_madry": "Madry", "resnet20_ig_topk": "IG-TOP-K",
        "resnet20_ig_topk_seed1": "IG-TOP-K, seed 1", "resnet20_ig_topk_seed2": "IG-TOP-K, seed 2",
        "resnet20_longer": "Madry, longer", "resnet20_ig_sum_norm": "IG-SUM-NORM",
    },
}  # fmt: skip
DATA = {"small": "fashion_mnist_mini"}
FROM_GREY = IntegratedGradients(keras_rar.quadrature.midpoint(20), baseline=0.5)
MAPS = {
    "paper": ("gradient", "gradient_x_input", "smoothgrad", FROM_GREY),
    "quick": ("gradient",),
    "strong": ("gradient", "gradient_x_input", FROM_GREY),  # a map of SmoothGrad is 50 gradients: longer than all else
}

DEEP = dict.fromkeys(("quick", "paper", "strong"), ("gradient",))  # a pass over ResNet-20 takes five times as long

OTHERS = {"gradient": "gradient", "gradient_x_input": "gradient × input", "ig_2": "IG from grey"}


def tables(folder, kind):
    """What both protocols found, from their files: of IG from black, and of other maps under `strong`."""
    found = {p: json.loads((folder / f"{kind}-{p}.json").read_text())["models"] for p in ("paper", "strong")}
    measures = ("adversarial_accuracy", "topk_intersection", "kendall_tau")
    lines = [
        "| | natural accuracy | adversarial: paper | strong | top-k: paper | strong | Kendall's tau: paper | strong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, report in found["paper"].items():
        pairs = [(measure, found[p][name]["summary"][measure]) for measure in measures for p in ("paper", "strong")]
        cells = [("natural_accuracy", report["summary"]["natural_accuracy"]), *pairs]
        lines.append(f"| {name} | {' | '.join(intervals.with_interval(*pair) for pair in cells)} |")
    measured = next(iter(found["strong"].values()))["controls"]["maps"]
    others = {kind: title for kind, title in OTHERS.items() if kind in measured}
    head = " | ".join(f"{title}: top-k | Kendall's tau" for title in ("IG", *others.values()))
    lines += ["", f"| | {head} |", "|---" * (2 * len(others) + 3) + "|"]
    for name, report in found["strong"].items():
        maps = report["controls"]["maps"]
        kinds = [{m: row["main"] for m, row in maps["gradient"].items()}]
        kinds += [{m: row["other"] for m, row in maps[kind].items()} for kind in others]
        cells = [intervals.number(m, rows[m]["mean"]) for rows in kinds for m in ("topk_intersection", "kendall_tau")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured_alone(networks, x, y, kind, protocol, out, **settings):
    """One file for each network, with its controls and without what was measured of each image."""
    names = {row: name for name, row in ROWS[kind].items()}
    for row, network in networks.items():
        report = keras_rar.evaluate_robustness(network, x, y, protocol=protocol, faithful=0, **settings)
        content = {key: value for key, value in json.loads(report.to_json()).items() if key != "per_example"}
        (out / f"{names[row]}-{protocol}.json").write_text(json.dumps(content, indent=1) + "\n")
        print(row, report.summary(), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=ROWS, help="which networks")
    parser.add_argument("--networks", type=Path, default=Path("networks"), help="folder with their files")
    parser.add_argument("--protocols", nargs="+", choices=["quick", "paper", "strong"], default=["paper", "strong"])
    parser.add_argument("--images", type=int, default=1000, help="test images for the accuracies")
    parser.add_argument("--attacked", type=int, default=50, help="images whose maps are attacked")
    parser.add_argument("--out", type=Path, default=Path("verdict"))
    parser.add_argument("--only", nargs="+", help="names of files, without .keras; by default all that are there")
    parser.add_argument("--alone", action="store_true", help="each network by itself")
    parser.add_argument("--table", action="store_true", help="print the tables of what is in the folder")
    arguments = parser.parse_args()
    if arguments.table:
        return print(tables(arguments.out, arguments.kind))
    kind = arguments.kind
    _, (x, y) = datasets.load(DATA.get(kind, "fashion_mnist"))
    x, y = x[: arguments.images], y[: arguments.images]
    networks = {
        row: keras.saving.load_model(file, compile=False)
        for name, row in ROWS[kind].items()
        if (file := arguments.networks / f"{name}.keras").exists() and name in (arguments.only or ROWS[kind])
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for protocol in arguments.protocols:
        ball = {"dataset": "fashion_mnist"} if protocol == "paper" else {"epsilon": 0.1, "k": 100}
        ball |= {"attacked": arguments.attacked, "other_maps": (DEEP if kind == "resnet20" else MAPS)[protocol]}
        if arguments.alone:
            measured_alone(networks, x, y, kind, protocol, arguments.out, **ball)
            continue
        folder = arguments.networks / f"{kind}-{protocol}"  # where it goes on
        comparison = keras_rar.compare(networks, x, y, protocol=protocol, path=folder, **ball)
        (arguments.out / f"{kind}-{protocol}.md").write_text(comparison.to_markdown() + "\n")
        content = json.loads(comparison.to_json())
        for name, report in comparison.reports.items():  # the controls, without what was measured of each image
            content["models"][name] = {k: v for k, v in json.loads(report.to_json()).items() if k != "per_example"}
        (arguments.out / f"{kind}-{protocol}.json").write_text(json.dumps(content, indent=1) + "\n")
        print(comparison.to_markdown(), flush=True)


if __name__ == "__main__":
    main()
