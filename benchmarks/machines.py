"""How training and evaluation scale over processes of `MultiWorkerMirroredStrategy`, on one machine.

`python benchmarks/machines.py --workers 1 2 --out benchmarks/results/machines.json`. Times are of the clock, so the
machine should be quiet; give each worker its own cores with `--threads`. An update is the median time from the end of
one to the end of the next, in the second epoch.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from machine import describe


def measure(method, batch, steps, examples, threads):
    """Seconds of a step and of an evaluation, in this worker."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    is_alone = "TF_CONFIG" not in os.environ
    strategy = tf.distribute.get_strategy() if is_alone else tf.distribute.MultiWorkerMirroredStrategy()
    import keras
    import numpy as np

    import keras_rar
    from keras_rar.paper import networks

    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(batch * steps, 28, 28, 1)).astype("float32"), np.arange(batch * steps) % 10
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras_rar.wrap(networks.cnn(), method, epsilon=0.1, seed=0)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ends = [time.perf_counter()]
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    model.fit(x, y, batch_size=batch, epochs=2, shuffle=False, verbose=0, callbacks=[watch])
    seconds = np.diff(ends)
    found = {"first": seconds[0], "update": float(np.median(seconds[steps + 1 :]))}
    labels = model.predict(x[:examples], verbose=0).argmax(axis=1)  # so that all of them are attacked
    settings = {"noise": 0, "other_maps": (), "faithful": 0, "batch_size": 8, "progress": False}
    for name in ("first evaluation", "evaluation"):
        start = time.perf_counter()
        keras_rar.evaluate_robustness(model, x[:examples], labels, steps=10, m=10, **settings)
        found[name] = time.perf_counter() - start
    return found


def together(workers, **arguments):
    """The results of the first of several workers."""
    sockets = [socket.socket() for _ in range(workers)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    started = []
    for index in range(workers):
        environment = dict(os.environ)
        if workers > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        command = [sys.executable, __file__, "--job", json.dumps(arguments)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))  # noqa: S603
    said = [worker.communicate()[0] for worker in started]
    if any(worker.returncode for worker in started):
        raise SystemExit("A worker failed.")
    return json.loads(said[0].splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--method", default="ig_sum_norm")
    parser.add_argument("--batch", type=int, default=50, help="examples of all workers together")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--examples", type=int, default=32, help="examples whose maps are attacked")
    parser.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(measure(**json.loads(arguments.job))))
        return
    settings = {name: getattr(arguments, name) for name in ("method", "batch", "steps", "examples", "threads")}
    results = {"machine": describe(), "settings": settings}
    for workers in arguments.workers:
        found = results[str(workers)] = together(workers, **settings)
        base = results[str(arguments.workers[0])]
        for name in ("update", "evaluation"):
            print(f"{workers} workers, {name:10}: {found[name]:7.2f} s ({base[name] / found[name]:.2f} x)", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
