"""All methods at an equal budget of passes over the network: train, attack, one table with paired intervals, a figure.

    python examples/compare_methods.py                  # a small network, 6,000 images: about an hour on two cores
    python examples/compare_methods.py --network cnn    # the paper's network, all of Fashion-MNIST: a day
    python examples/compare_methods.py --methods madry ig_topk "ig_topk + 0.1 cure" --protocol strong --attacked 16

Started again, it goes on where it was stopped. A sixth of the training images is held out: to choose a method or its
settings, measure on these, by `--choose`.
"""

import argparse
import functools
import json
import operator
import time
from pathlib import Path

import keras
import matplotlib.figure
import tensorflow as tf
from try_train import LOSS, small_cnn

import keras_rar
from keras_rar.evaluation import intervals
from keras_rar.methods.table import make
from keras_rar.paper import datasets, networks
from keras_rar.paper.precision import fastest_policy

PASSES = {  # over the network, for each image in an update: "Cost" in docs/methods.md
    "natural": 3, "madry": 13, "ig_norm": 41, "ig_sum_norm": 51, "igr": 37, "ig_topk": 59, "loss_change": 20,
    "input_gradient": 9, "r2et": 9, "pearson": 59, "kendall": 59, "lga": 37, "trades": 20, "mart": 19, "cure": 15,
    "hessian": 15, "art": 67, "ssr": 27, "contrast": 105, "prior": 9,
}  # fmt: skip
LATE = {
    "ig_norm",
    "ig_sum_norm",
    "igr",
    "ig_topk",
    "pearson",
    "kendall",
    "lga",
    "art",
    "contrast",
}  # after adversarial training
SUMS = ["madry + r2et", "madry + cure", "ig_topk + kendall", "ig_topk + lga", "ig_topk + cure"]
NETWORKS = {"small": small_cnn, "cnn": networks.cnn}
MEASURES = ("natural_accuracy", "adversarial_accuracy", "topk_intersection", "kendall_tau")


def method(name):
    """The method of a name such as `ig_topk + 0.1 cure`, and its passes before and after its map term begins."""
    pairs = [(float(weight or 1), one) for weight, _, one in (part.strip().rpartition(" ") for part in name.split("+"))]
    late = {"begin": 0.8} if any(one in LATE for _, one in pairs) else {}
    made = [weight * make(one, {"epsilon": 0.1, **late}) for weight, one in pairs]
    passes = sum(PASSES[one] for _, one in pairs)
    return functools.reduce(operator.add, made), (PASSES["madry"], passes) if late else (passes, passes)


def trained(name, network, x, y, budget, file):
    """Train a network with a method until `budget` passes for each image are spent; what that took."""
    regularizer, (before, after) = method(name)
    updates = round(budget * len(x) / 50 / (0.8 * before + 0.2 * after))
    first = round(0.8 * updates) if before != after else updates  # a cycle of the rate before and one after
    rate = keras.optimizers.schedules.CosineDecayRestarts(2e-3, first, t_mul=max(updates / first - 1, 0.1))
    keras.config.set_dtype_policy(fastest_policy())  # bfloat16, where the processor is fast in it
    keras.utils.set_random_seed(0)
    model = keras_rar.wrap(NETWORKS[network](), regularizer, seed=0)
    model.compile(keras.optimizers.Adam(rate), LOSS)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=0).batch(50, drop_remainder=True)
    start = time.process_time()
    model.fit(batches.repeat(), steps_per_epoch=updates, shuffle=False, verbose=0)
    seconds = time.process_time() - start
    keras.config.set_dtype_policy("float32")
    (kept := NETWORKS[network]()).set_weights(keras_rar.unwrap(model).get_weights())
    kept.save(file)
    return {"updates": updates, "processor_seconds": round(seconds)}


def summary(comparison, base):
    """The numbers of the table: the measures, the difference in the maps kept from `base`, and the controls."""
    rows = {}
    for name, report in comparison.reports.items():
        controls = json.loads(report.to_json())["controls"]
        rows[name] = dict(comparison.summary()[name])
        rows[name]["difference"] = comparison.difference(name, base)["topk_intersection"] if name != base else None
        rows[name]["gradient"] = controls["maps"]["gradient"]["topk_intersection"]["other"]
        rows[name]["noise"] = controls["noise"]["topk_intersection"]["noise"]
        rows[name] |= {kind: found["map"] for kind, found in controls["faithfulness"].items()}
    return rows


def table(content):
    """Markdown, the method with the highest top-k intersection first."""
    head = "| method | processor time | natural accuracy | adversarial accuracy | top-k intersection | Kendall's tau "
    lines = [head + f"| top-k − {content['base']} | gradient's map: top-k | deletion |", "|---" * 9 + "|"]
    for name, row in sorted(content["rows"].items(), key=lambda pair: -pair[1]["topk_intersection"]["mean"]):
        cells = [intervals.cell(measure, row[measure]).rpartition(" (")[0] for measure in MEASURES]
        change = row["difference"]
        cells.append(intervals.cell("topk_intersection", change, True).rpartition(" (")[0] if change else "")
        gradient = intervals.number("topk_intersection", row["gradient"]["mean"])
        cells += [f"{gradient} %", f"{row['deletion']['mean']:.3f}"]
        lines.append(f"| {name} | {content['trained'][name]['processor_seconds']} s | {' | '.join(cells)} |")
    return "\n".join(lines)


def frontier(content):
    """A figure of accuracy against robustness of the maps, a point for each method."""
    figure = matplotlib.figure.Figure(figsize=(9, 4), layout="constrained")
    for axes, accuracy in zip(figure.subplots(1, 2, sharey=True), MEASURES[:2], strict=True):
        for name, row in content["rows"].items():
            point = [100 * row[measure]["mean"] for measure in (accuracy, "topk_intersection")]
            axes.plot(*point, "o", color="tab:orange" if name == content["base"] else "tab:blue")
            axes.annotate(name, point, xytext=(3, 3), textcoords="offset points", fontsize=7)
        axes.margins(x=0.25)  # room for names
        axes.set_xlabel(f"{accuracy.replace('_', ' ')} (%)")
    figure.axes[0].set_ylabel("top-k intersection after the attack (%)")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--methods", nargs="+", default=[*PASSES, *SUMS], help="names, or sums")
    parser.add_argument("--budget", type=float, help="passes over the network for each training image")
    parser.add_argument("--protocol", choices=["quick", "strong"], default="quick")
    parser.add_argument("--images", type=int, default=1000, help="images for the accuracies")
    parser.add_argument("--attacked", type=int, default=100, help="images whose maps are attacked")
    parser.add_argument("--choose", action="store_true", help="measure on held-out training images")
    parser.add_argument("--out", type=Path, default=Path("compare_methods"))
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args()
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini" if options.network == "small" else "fashion_mnist")
    held = len(x) // 6
    if options.choose:
        x_test, y_test = x[-held:], y[-held:]
    x, y = x[:-held], y[:-held]
    x_test, y_test = x_test[: options.images], y_test[: options.images]
    budget, settings = options.budget or 222, {"attacked": options.attacked}
    if options.smoke:
        x, y, x_test, y_test, budget = x[:100], y[:100], x_test[:50], y_test[:50], 60
        settings = {"attacked": 2, "steps": 2, "m": 2, "pgd_steps": 2, "noise": 2, "faithful": 2}
    folder = options.out / f"{options.network}-{budget:g}"
    folder.mkdir(parents=True, exist_ok=True)
    models, log = {}, folder / "trained.json"
    spent = json.loads(log.read_text()) if log.exists() else {}
    for name in options.methods:
        file = folder / f"{name.replace(' ', '_')}.keras"
        if name not in spent:
            spent[name] = trained(name, options.network, x, y, budget, file)
            log.write_text(json.dumps(spent, indent=1))
            print(name, spent[name], flush=True)
        models[name] = keras.saving.load_model(file, compile=False)
    kept = folder / f"{options.protocol}{'-choose' if options.choose else ''}"
    ball = {"epsilon": 0.1, "k": 100, "other_maps": ("gradient",)}
    comparison = keras_rar.compare(models, x_test, y_test, protocol=options.protocol, path=kept, **ball, **settings)
    base = "ig_topk" if "ig_topk" in models else options.methods[0]
    content = {"base": base, "budget": budget, "trained": spent, "rows": summary(comparison, base)}
    content |= {"protocol": comparison.protocol, "warnings": comparison.warnings}
    kept.with_suffix(".json").write_text(json.dumps(content, indent=1))
    kept.with_suffix(".md").write_text(table(content) + "\n")
    frontier(content).savefig(kept.with_suffix(".png"), dpi=150)
    print(table(content))


if __name__ == "__main__":
    main()
