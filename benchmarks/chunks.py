"""An update by size of its chunks, in times the speed of nested tapes, float32, on this processor.

    python benchmarks/chunks.py --out benchmarks/results/chunks.json
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/chunks.py --out benchmarks/results/chunks.json

The second names the instructions that convolutions and products may use, as an older processor would: the file keeps
the results of both, and those of other processors. The paper's setting with 4 inner steps in place of 20. All
contestants are in one process and take turns. `shares` says where the time of an inner gradient goes, by TensorFlow's
profiler.
"""

import argparse
import collections
import json
import os
import tempfile
from pathlib import Path

import engine
import tensorflow as tf
from machine import describe

OPTIONS = {
    "auto": {},
    "auto, 0.35 GB": {"memory_budget": 0.35},
    "None": {"chunk": None},
    "5": {"chunk": 5},
    "1": {"chunk": 1},
}


def updates(rounds):
    """Ratios of the time of nested tapes to that of the engine, of each chunk: median, minimum and maximum."""
    x, y = engine.data()
    network, _ = engine.build()
    tapes = engine.straightforward(network, {**engine.PAPER, "steps": 4})[1]
    contestants = {"tapes": lambda: float(tapes(x, y))}
    for name, options in OPTIONS.items():
        _, model = engine.build(steps=4, **options)
        contestants[name] = lambda model=model: model.train_on_batch(x, y)
    seconds = engine.turns(contestants, rounds)
    return {
        "seconds": {name: engine.spread(values) for name, values in seconds.items()},
        "times faster": {name: engine.ratio(seconds, "tapes", name) for name in OPTIONS},
    }


def shares():
    """Share of each kind of operation in the time of inner gradients."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    x, y = engine.data()
    _, model = engine.build(steps=5)
    for _ in range(2):
        model.perturb(x, y)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        model.perturb(x, y)
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace.FromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    times = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name, separator, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if separator and name and kind.isidentifier() and kind not in ("Process", "Run"):
                    times[kind.removeprefix("_MklNative").removeprefix("_Mkl")] += event.duration_ps
    total = sum(times.values())
    return {kind: round(time / total, 3) for kind, time in times.most_common(8)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = {"machine": describe(), **updates(arguments.rounds), "shares": shares()}
    name = f"{found['machine']['processor']}, {os.environ.get('ONEDNN_MAX_CPU_ISA', 'all')}"
    print(json.dumps(found, indent=1))
    if arguments.out:
        results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        arguments.out.write_text(json.dumps({**results, name: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
