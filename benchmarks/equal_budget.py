"""Methods at an equal budget of passes over the network: what `examples/compare_methods.py` is made of."""

import functools
import json
import operator
import sys
import time
from pathlib import Path

import keras
import matplotlib.figure
import tensorflow as tf

import keras_rar
from keras_rar.core.saliency_methods import IntegratedGradients
from keras_rar.evaluation import comparison_controls, intervals
from keras_rar.methods.table import make
from keras_rar.paper import architectures
from keras_rar.paper.precision import fastest_policy

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "examples")]
from networks import resnet20  # noqa: E402
from try_train import LOSS, small_cnn  # noqa: E402

PASSES = {  # over the network, for each image in an update: "Cost" in docs/methods.md
    "natural": 3, "madry": 13, "ig_norm": 41, "ig_sum_norm": 51, "igr": 37, "ig_topk": 59, "loss_change": 20,
    "input_gradient": 9, "r2et": 9, "pearson": 59, "kendall": 59, "lga": 37, "trades": 20, "mart": 19, "cure": 15,
    "hessian": 15, "art": 67, "ssr": 27, "contrast": 105, "prior": 9,
}  # fmt: skip
LATE = {  # after adversarial training
    "ig_norm", "ig_sum_norm", "igr", "ig_topk", "pearson", "kendall", "lga", "art", "contrast",
}  # fmt: skip
VARIANTS = {  # the method and its options
    "gradient_topk": ("ig_topk", {"maps": ("gradient",)}),
    "both_topk": ("ig_topk", {"maps": ("ig", "gradient")}),
}
COSTS = {**PASSES, "gradient_topk": 47, "both_topk": 93}
STRENGTH = {"ig_sum_norm": "beta", "trades": "beta"}  # the option that is λ, where it is not `factor`
CHOSEN = {
    "ig_norm": 1,
    "ig_sum_norm": 0.4,
    "igr": 12,
    "ig_topk": 16,
    "loss_change": 1,
    "input_gradient": 1,
    "r2et": 0.4,
    "pearson": 16,
    "kendall": 4,
    "lga": 64,
    "trades": 24,
    "mart": 0.078125,
    "cure": 16,
    "hessian": 0.016,
    "art": 2,
    "ssr": 0.025,
    "contrast": 0.025,
    "prior": 0.01,
    "gradient_topk": 16,
    "both_topk": 16,
}  # by choose.py
SUMS = ["madry + hessian=0.064", "trades=6 + hessian=0.004", "trades=24 + cure=16", "madry + r2et=0.4"]
EVERY = ["natural", "madry", *(f"{name}={strength:g}" for name, strength in CHOSEN.items()), *SUMS]
NETWORKS = {  # by seed
    "small": small_cnn,
    "cnn": lambda _: architectures.cnn(initializer="glorot_uniform"),
    "resnet20": lambda _: resnet20(),
}
OTHERS = {"gradient": "gradient", "gradient_x_input": "gradient × input", "ig_2": "IG from grey"}
OTHER_MAPS = (*list(OTHERS)[:2], IntegratedGradients(keras_rar.quadrature.midpoint(20), baseline=0.5))
MEASURES = ("natural_accuracy", "adversarial_accuracy", "topk_intersection", "kendall_tau")


def parts(name):
    """Weight, method, options and passes of each part of a name such as `ig_topk=8 + 0.1 cure`."""
    for part in name.split("+"):
        weight, _, one = part.strip().rpartition(" ")
        one, _, strength = one.partition("=")
        kind, options = VARIANTS.get(one, (one, {}))
        if strength:
            options = {**options, STRENGTH.get(one, "factor"): float(strength)}
        yield float(weight or 1), kind, options, COSTS[one]


def method(name):
    """The method of a name such as `ig_topk=8 + 0.1 cure`, and its passes before and after its map term begins."""
    found = list(parts(name))
    late = any(kind in LATE for _, kind, _, _ in found)
    shared = {"epsilon": 0.1, **({"begin": 0.8} if late else {})}
    made = [weight * make(kind, {**shared, **options}) for weight, kind, options, _ in found]
    passes = sum(cost for *_, cost in found)
    return functools.reduce(operator.add, made), (PASSES["madry"], passes) if late else (passes, passes)


def split(x, y):
    """What is trained on, and the last sixth, which is held out to choose settings by."""
    held = len(x) // 6
    return (x[:-held], y[:-held]), (x[-held:], y[-held:])


def trained(name, network, x, y, budget, file, seed):
    """Train a network with a method until `budget` passes for each image are spent; what that took."""
    regularizer, (before, after) = method(name)
    updates = round(budget * len(x) / 50 / (0.8 * before + 0.2 * after))
    first = round(0.8 * updates) if before != after else updates  # a cycle of the rate before and one after
    rate = keras.optimizers.schedules.CosineDecayRestarts(2e-3, first, t_mul=max(updates / first - 1, 0.1))
    keras.config.set_dtype_policy(fastest_policy())  # bfloat16, where the processor is fast in it
    keras.utils.set_random_seed(seed)
    model = keras_rar.wrap(NETWORKS[network](seed), regularizer, seed=seed)
    model.compile(keras.optimizers.Adam(rate), LOSS)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed).batch(50, drop_remainder=True)
    start = time.process_time()
    model.fit(batches.repeat(), steps_per_epoch=updates, shuffle=False, verbose=0)
    seconds = time.process_time() - start
    keras.config.set_dtype_policy("float32")
    (kept := NETWORKS[network](seed)).set_weights(keras_rar.unwrap(model).get_weights())
    kept.save(file)
    return {"updates": updates, "processor_seconds": round(seconds)}


def all_trained(names, network, x, y, budget, folder, seed=0):
    """Train what the folder does not have yet; of each method what its training took, and its file."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "trained.json"
    spent = json.loads(log.read_text()) if log.exists() else {}
    for name in names:
        if name not in spent:
            file = f"{name.replace(' ', '_').replace('+', 'and')}.keras"
            spent[name] = {**trained(name, network, x, y, budget, folder / file, seed), "file": file}
            log.write_text(json.dumps(spent, indent=1))
            print(name, spent[name], flush=True)
    return {name: spent[name] for name in names}


def summary(comparison, base):
    """The numbers of the table: the measures, the difference in the maps kept from `base`, and the controls."""
    rows = {}
    for name, report in comparison.reports.items():
        controls = json.loads(report.to_json())["controls"]
        rows[name] = dict(comparison.summary()[name])
        rows[name]["difference"] = comparison.difference(name, base)["topk_intersection"] if name != base else None
        rows[name] |= {kind: controls["maps"][kind]["topk_intersection"]["other"] for kind in OTHERS}
        others = comparison_controls.paired(comparison, name, base) if name != base else {}
        rows[name]["other_differences"] = others  # of other maps and of faithfulness
        rows[name]["noise"] = controls["noise"]["topk_intersection"]["noise"]
        rows[name] |= {kind: found["map"] for kind, found in controls["faithfulness"].items()}
    return rows


def table(content):
    """Markdown, the method with the highest top-k intersection first."""
    head = "| method | processor time | natural accuracy | adversarial accuracy | top-k intersection | Kendall's tau "
    head += f"| top-k − {content['base']} | {' | '.join(f'{title}: top-k' for title in OTHERS.values())} | deletion |"
    lines = [head, "|---" * (8 + len(OTHERS)) + "|"]
    for name, row in sorted(content["rows"].items(), key=lambda pair: -pair[1]["topk_intersection"]["mean"]):
        cells = [intervals.with_interval(measure, row[measure]) for measure in MEASURES]
        change = row["difference"]
        cells.append(intervals.with_interval("topk_intersection", change, True) if change else "")
        cells += [f"{intervals.number('topk_intersection', row[kind]['mean'])} %" for kind in OTHERS]
        cells.append(f"{row['deletion']['mean']:.3f}")
        lines.append(f"| {name} | {content['trained'][name]['processor_seconds']} s | {' | '.join(cells)} |")
    return "\n".join(lines)


def frontier(content):
    """A figure of accuracy against robustness of the maps, a point for each method; named where none is better."""
    figure = matplotlib.figure.Figure(figsize=(10, 4.5), layout="constrained")
    for axes, accuracy in zip(figure.subplots(1, 2, sharey=True), MEASURES[:2], strict=True):
        points = {
            name: [100 * row[measure]["mean"] for measure in (accuracy, "topk_intersection")]
            for name, row in content["rows"].items()
        }
        values = list(points.values())
        best = [n for n, (x, y) in points.items() if not any(a >= x and b >= y and [a, b] != [x, y] for a, b in values)]
        axes.plot(*zip(*sorted(points[name] for name in best), strict=True), "-", color="tab:orange", linewidth=1)
        side, offset = ("left", 4) if accuracy == "natural_accuracy" else ("right", -5)
        for name, point in points.items():
            axes.plot(*point, "o", markersize=5, color="tab:orange" if name in best else "tab:gray")
        for number, name in enumerate(sorted({*best, "natural", "madry"} & {*points}, key=points.get)):
            place = {"xytext": (offset, (4, -9)[number % 2]), "textcoords": "offset points", "ha": side}
            axes.annotate(name, points[name], fontsize=7, **place)
        axes.margins(x=0.2, y=0.1)  # room for names
        axes.set_xlabel(f"{accuracy.replace('_', ' ')} (%)")
    figure.axes[0].set_ylabel("top-k intersection after the attack (%)")
    return figure


def written(comparison, content, kept):
    """Write the numbers, the table and the figure of a comparison beside its folder; the table."""
    content = {**content, "rows": summary(comparison, content["base"])}
    content |= {"protocol": comparison.protocol, "warnings": comparison.warnings}
    kept.with_suffix(".json").write_text(json.dumps(content, indent=1))
    kept.with_suffix(".md").write_text(table(content) + "\n")
    frontier(content).savefig(kept.with_suffix(".png"), dpi=110)
    return table(content)
