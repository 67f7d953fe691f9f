"""Choose λ of each method on held-out training images, for `examples/compare_methods.py`.

    python benchmarks/choose.py --out FOLDER     # about an hour and a half on one core; it goes on where it was stopped
    python benchmarks/choose.py --out FOLDER --methods "trades=24 + hessian=0.004"    # a sum, as it stands
    python benchmarks/choose.py --out FOLDER --table

The small network, at half of the budget of the comparison, with the default λ, a quarter of it and four times it. Where
the best is the smallest or the largest, one or two further. Measured on the sixth of the training images that the
training does not see, by the default attack. The best has the highest mean of natural accuracy, adversarial accuracy,
top-k intersection and Kendall's tau. That rule was written before the first run. Of sums, what is named is measured.
"""

import argparse
import json
from pathlib import Path

import keras
from equal_budget import COSTS, MEASURES, STRENGTH, all_trained, method, split

import keras_rar
from keras_rar.evaluation.intervals import with_interval
from keras_rar.paper import datasets

BUDGET = 111
WITHOUT = ("natural", "madry")  # they have no λ


def default(name):
    """λ of the method where none is said."""
    return getattr(method(name)[0].regularizers[0], STRENGTH.get(name, "factor"))


def score(row):
    """The mean of the four measures; below all others of a network that learnt nothing, whose row is `None`."""
    return -1.0 if row is None else sum(row[measure]["mean"] for measure in MEASURES) / len(MEASURES)


def keys(name, rows):
    """What is still to be measured of a method: the default λ, a quarter, four times; then beyond the best."""
    if "+" in name:
        return [name] if name not in rows else []
    tried = {strength: score(rows[key]) for strength, key in of(name, rows)}
    first = [float(f"{default(name) * scale:g}") for scale in (1, 0.25, 4)]
    if missing := [strength for strength in first if strength not in tried]:
        return [f"{name}={strength:g}" for strength in missing]
    best = max(tried, key=tried.get)
    further = {min(tried): best / 4, max(tried): best * 4}.get(best)
    return [f"{name}={further:g}"] if further and len(tried) < 5 else []


def of(name, rows):
    """λ and the key of each row of a method."""
    return [(float(key.partition("=")[2]), key) for key in rows if "+" not in key and key.partition("=")[0] == name]


def chosen(rows):
    """The best λ of each method."""
    return {name: max(of(name, rows), key=lambda pair: score(rows[pair[1]]))[0] for name in COSTS if of(name, rows)}


def table(rows):
    """Markdown: every λ that was tried, the chosen one in bold."""

    def row(key, said):
        if rows[key] is None:
            return f"| {said} | one answer for all images | | | | |"
        cells = " | ".join(with_interval(measure, rows[key][measure]) for measure in MEASURES)
        return f"| {said} | {cells} | {score(rows[key]):.3f} |"

    lines = ["| method, λ | natural | adversarial | top-k | Kendall's tau | mean |", "|---" * 6 + "|"]
    best = chosen(rows)
    for name in COSTS:
        lines += [row(key, f"**{key}**" if strength == best[name] else key) for strength, key in sorted(of(name, rows))]
    lines += [row(key, key) for key in rows if "+" in key]
    return "\n".join(lines)


def measured(key, data, folder, settings):
    """Train one method with one λ, and what `quick` says of it on the held-out images; `None` if it learnt nothing."""
    (x, y), (x_held, y_held) = data
    file = all_trained([key], "small", x, y, BUDGET, folder)[key]["file"]
    network = keras.saving.load_model(folder / file, compile=False)
    try:
        report = keras_rar.evaluate_robustness(network, x_held, y_held, epsilon=0.1, k=100, progress=False, **settings)
    except ValueError as error:
        if "constant" not in str(error) and "NaN" not in str(error):
            raise
        return None
    return {measure: report.summary()[measure] for measure in MEASURES}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=[name for name in COSTS if name not in WITHOUT])
    parser.add_argument("--out", type=Path, default=Path("choose"))
    parser.add_argument("--table", action="store_true", help="print the table of what is in the folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "choose.json"
    rows = json.loads(log.read_text()) if log.exists() else {}
    if options.table:
        return print(table(rows))
    data = split(*datasets.load("fashion_mnist_mini")[0])
    settings = {"attacked": 40, "noise": 0, "faithful": 0, "other_maps": ()}
    for name in options.methods:
        while left := keys(name, rows):
            key = left[0]
            rows[key] = measured(key, data, options.out, settings)
            log.write_text(json.dumps(rows, indent=1) + "\n")
            print(key, score(rows[key]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
