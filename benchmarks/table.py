"""The committed results as one Markdown table: medians, with minimum and maximum where there were rounds.

Of the folder `benchmarks/results`, or of another one that is named.
"""

import json
import sys
from pathlib import Path

from keras_rar.evaluation.intervals import cell

RESULTS = Path(__file__).parent / "results"


def spread(values, digits=2):
    median, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{median} [{low}, {high}]"


def engine(results):
    for name, found in results.items():
        if name.startswith(("inner gradient", "update")):
            yield f"{name}: nested tapes in float32, s", spread(found["nested tapes, float32"])
            yield f"{name}: keras_rar, s", spread(found["engine"])
            yield f"{name}: times faster", spread(found["times faster"])
            if "of the bound" in found:
                yield f"{name}: in units of its convolutions and products", spread(found["of the bound"])
        elif name.startswith("peak memory"):
            yield f"{name}, GB", f"{found:.2f}"
        elif name.startswith("cost against"):
            seconds = ", ".join(f"{value}: {times[0]:.3f}" for value, times in found["seconds"].items())
            yield f"{name}: exponent (seconds)", f"{found['exponent']:.2f} ({seconds})"


def gpu(results):
    for name, (maps, gradient) in results["errors"].items():
        yield f"on a GPU, {name}: relative error of attributions, of the gradient", f"{maps:.1e}, {gradient:.1e}"
    for name, row in results["updates"].items():
        label = f"on a GPU, {name}: s, GB, s of the first update"
        yield label, f"{spread(row['update'], 3)}, {row['gpu_memory_gb']:.2f}, {row['first']:.0f}"


def libraries(results):
    for name, found in results["libraries"].items():
        label = f"IG with a completeness gap below 1 %: {name} {found['version']}, {found['nodes']} nodes, times ours"
        yield label, spread(found["times ours"])


def attack(results):
    for name, row in results["rows"].items():
        label = f"top-k attack, {results['m']} nodes, {name}: s an image ({results['steps']} iterations), GB"
        yield label, f"{row['seconds_an_image']:.2f}, {row['peak_gb']:.2f}"


def kendall(results):
    for row in results["rows"]:
        ties = "four fifths zeros" if row["tied"] else "no ties"
        label = f"Kendall's tau of 64 maps of {row['entries']}, {ties}: times faster than SciPy, eager, graph, XLA"
        yield label, ", ".join(f"{row['speed_up'][name]:.1f}" for name in ("eager", "graph", "xla"))


def stronger(results):
    for name, row in results.items():
        if "accuracy" in row:
            yield f"accuracy of {results['of']['model']} under {name}", cell("natural_accuracy", row["accuracy"])
        elif "kendall_tau" in row:
            cells = [cell(measure, row[measure]) for measure in ("topk_intersection", "kendall_tau")]
            yield f"top-k intersection, Kendall's tau of {results['of']['model']} under {name}", ", ".join(cells)


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    print("| | |\n|---|---|")
    for part in (engine, gpu, libraries, attack, kendall, stronger):
        for path in sorted(folder.glob(f"{part.__name__}*.json")):
            results = json.loads(path.read_text())
            machine = ", ".join(
                f"{name} {', '.join(value) if isinstance(value, list) else value}"
                for name, value in results["machine"].items()
            )
            print(f"| **{path.name}** | {machine} |")
            for label, value in part(results):
                print(f"| {label} | {value} |")


if __name__ == "__main__":
    main()
