"""Peak memory of an update against batch and size of image: Keras's own, and what a method takes more.

    python benchmarks/memory.py --out benchmarks/results/memory.json
    python benchmarks/memory.py --table --out benchmarks/results/memory.json

Each figure is of a process of its own that makes one update. The exponent is that of the power law through the points.
It goes on where it was stopped.
"""

import argparse
import json
from pathlib import Path

from engine import exponent
from machine import describe
from updates import METHODS, separately

SIZE, BATCH = 96, 16
SIZES, BATCHES = (64, 96, 160, 224), (8, 16, 32, 64)


def table(results):
    """Markdown: gigabytes of each point, and the exponents along batch and image."""
    peaks, method = results["peaks"], results["settings"]["method"]
    lines = [f"| images | Keras | {method} | more |", "|---|---|---|---|"]
    for axis, values in (("batch", BATCHES), ("side", SIZES)):
        found = []
        for value in values:
            batch, size = (value, SIZE) if axis == "batch" else (BATCH, value)
            plain, ours = (peaks[f"{kind} {batch} {size}"] for kind in ("keras", method))
            found.append((plain, ours))
            lines.append(f"| {batch} of {size} × {size} | {plain:.2f} GB | {ours:.2f} GB | {ours - plain:+.2f} GB |")
        powers = (exponent(values, column) for column in zip(*found, strict=True))
        lines.append(f"| exponent in the {axis} | {' | '.join(f'{power:.2f}' for power in powers)} | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="MobileNetV2")
    parser.add_argument("--method", default="ig_topk", choices=METHODS[1:])
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path("memory.json"))
    parser.add_argument("--table", action="store_true", help="print what the file holds, run nothing")
    arguments = parser.parse_args()
    settings = {"network": arguments.network, "method": arguments.method, "budget": arguments.budget}
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"settings": settings, "peaks": {}}
    points = dict.fromkeys([*((batch, SIZE) for batch in BATCHES), *((BATCH, size) for size in SIZES)])
    for batch, size in () if arguments.table else points:
        for method in ("keras", arguments.method):
            name = f"{method} {batch} {size}"
            if name not in results["peaks"]:
                options = {"updates": 0, "dtype": "float32", "folder": "networks", "budget": arguments.budget}
                found = separately(network=arguments.network, method=method, size=size, batch=batch, **options)
                results["peaks"][name], results["machine"] = found["peak"], describe()
                arguments.out.write_text(json.dumps(results, indent=1) + "\n")
                print(name, f"{found['peak']:.2f} GB", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
