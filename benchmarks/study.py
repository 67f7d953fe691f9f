"""What robustness needs: trials of one change each, on full Fashion-MNIST without its test images.

    python benchmarks/study.py                      # every trial that the results file does not have yet
    python benchmarks/study.py --only base epsilon_warm_up
    python benchmarks/study.py --table              # the results as Markdown

Trained on 55,000 images, measured on the other 5,000 of the training set (natural and PGD-20 accuracy; maps of 48):
settings are chosen here. Each trial is the base with what its name says changed, in a process of its own.
"""

import argparse
import contextlib
import functools
import json
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from machine import describe

import keras_rar
from keras_rar.attacks import PGDAttack
from keras_rar.evaluation.intervals import with_interval
from keras_rar.paper import datasets, networks
from keras_rar.training import Phase, train

RESULTS = Path(__file__).parent / "results" / "study.jsonl"
VALIDATION = keras_rar.Protocol(
    "validation", epsilon=0.1, pgd_steps=20, pgd_restarts=0, steps=100, m=20, k=100, k_report=100, attacked=48
)
MEASURES = ("topk_intersection", "kendall_tau")
BASE = {
    "learning_rate": 2e-3,
    "batch_size": 100,
    "seed": 0,
    "schedule": "one_cycle",
    "average": True,
    "initializer": "glorot_uniform",
    "threshold": 0.102,
}
INNER = {"steps": 5, "step_size": 0.05}  # the package's defaults, as is the base
NODES = {"rule": "midpoint", "m": 3, "attack_m": 1}  # likewise, of the paper's methods


def igr(epochs=1, before="madry", **options):
    """An epoch of adversarial training, then IGR."""
    first = [[before, 1, INNER if before != "natural" else {}]] if before else []
    return {"phases": [*first, ["igr", epochs, {**INNER, "rule": "midpoint", "m": 2, "factor": 12.0, **options}]]}


def other(method, epochs=1, **options):
    """An epoch of adversarial training, then one of the paper's methods, in the paper's network."""
    return {"phases": [["madry", 1, INNER], [method, epochs, {**INNER, **NODES, **options}]], "threshold": None}


def whole(method, epochs=1, before=4, threshold=None, **options):
    """Some epochs of adversarial training, and a method in a cycle of its own."""
    inner = {"steps": 5, "step_size": 0.04}
    phases = [["madry", before, inner], [method, epochs, {**inner, "baseline": threshold or 0.0, **options}]]
    return {"phases": phases, "threshold": threshold, "schedule": "cycles"}


def hour(epochs, factor, threshold=BASE["threshold"], before=4, ascend="objective"):
    """IGR in the one cycle of a longer training."""
    return {**whole("igr", epochs, before, threshold, ascend=ascend, factor=factor), "schedule": "one_cycle"}


def topk(epochs=1, factor=4.0, **options):
    """IG-TOP-K, as in examples/fashion_mnist_hour.py."""
    return whole("ig_topk", epochs, factor=factor, **{"k": 100, **options})


def slow(method, epochs=10, before=0, **options):
    """The paper's rate, batch and initializer, no averages; the method from the first step on, if nothing is before."""
    settings = {"learning_rate": 1e-4, "schedule": "constant", "batch_size": 50, "average": False}
    phases = [["madry", before, INNER]] * bool(before) + [[method, epochs, {**INNER, **options}]]
    return {"phases": phases, "threshold": None, "initializer": "paper", **settings}


TRIALS = {
    "base": igr(),
    "base_again": {**igr(), "seed": 1},
    "base_third": {**igr(), "seed": 2},
    # nodes of the maps
    "midpoint_1": igr(m=1),
    "midpoint_3": igr(m=3),
    "midpoint_5": igr(m=5),
    "right_5": igr(m=5, rule="right"),
    # the inner maximum
    "pgd_1": igr(steps=1, step_size=0.1),
    "pgd_2": igr(steps=2, step_size=0.1),
    "pgd_3": igr(steps=3, step_size=0.083),
    "pgd_10": igr(steps=10, step_size=0.025),
    "shorter_steps": igr(step_size=0.03),
    "no_random_start": igr(random_start=False),
    "reuse": {**igr(steps=1), "reuse": True},
    "ascend_objective": igr(ascend="objective", attack_m=1),
    "ascend_objective_2": igr(ascend="objective", attack_m=2),
    # the schedule
    "constant_rate": {**igr(), "schedule": "constant"},
    "rate_half": {**igr(), "learning_rate": 1e-3},
    "rate_double": {**igr(), "learning_rate": 4e-3},
    "batch_50": {**igr(), "batch_size": 50},
    "batch_200": {**igr(), "batch_size": 200},
    "no_average": {**igr(), "average": False},
    "natural_start": igr(before="natural"),
    "no_start": igr(epochs=2, before=None),
    "epsilon_warm_up": {
        "phases": [["madry", 1, {**INNER, "epsilon": 0.05, "step_size": 0.025}], *igr(before=None)["phases"]]
    },
    "factor_warm_up": {"phases": [*igr(factor=3.0, before=None)["phases"], *igr(before=None)["phases"]]},
    "longer_start": {"phases": [["madry", 4, INNER], *igr(before=None)["phases"]]},
    "paper_initializer": {**igr(), "initializer": "paper"},
    # the objective
    "no_threshold": {**igr(), "threshold": None},
    "threshold_5": {**igr(), "threshold": 0.05},
    "threshold_15": {**igr(), "threshold": 0.15},
    "baseline_at_threshold": igr(baseline=0.102),
    "factor_3": igr(factor=3.0),
    "factor_48": igr(factor=48.0),
    "factor_192": igr(factor=192.0),
    "powers": igr(powers=[1.0, 0.5]),
    # whole trainings of the example: the frontier between predictions and maps
    "hour": hour(5, 64.0),
    "hour_2_epochs_factor_24": hour(2, 24.0),
    "hour_5_epochs_factor_24": hour(5, 24.0),
    "hour_5_epochs_factor_160": hour(5, 160.0),
    "hour_plain": hour(2, 24.0, threshold=None),
    "hour_plain_8_and_1_factor_12": hour(1, 12.0, threshold=None, before=8),
    "hour_plain_ascend_loss": hour(2, 24.0, threshold=None, ascend="loss"),
    # smooth top-k intersection
    "topk": topk(),
    "topk_one_cycle": {**topk(), "schedule": "one_cycle"},
    "topk_ascend_loss": topk(ascend="loss"),
    "topk_factor_2": topk(factor=2.0),
    "topk_factor_8": topk(factor=8.0),
    "topk_k_50": topk(k=50),
    "topk_k_200": topk(k=200),
    "topk_sharpness_2": topk(sharpness=2.0),
    "topk_sharpness_8": topk(sharpness=8.0),
    "topk_midpoint_3": topk(m=3),
    "topk_threshold": topk(threshold=0.102),
    "topk_hour": topk(4, 6.0),
    "igr_cycles": whole("igr", factor=12.0, ascend="objective"),
    "madry_cycles": whole("madry"),
    # the paper's methods
    "madry": {"phases": [["madry", 2, INNER]]},
    "madry_no_threshold": {"phases": [["madry", 2, INNER]], "threshold": None},
    "ig_sum_norm": other("ig_sum_norm"),
    "ig_sum_norm_beta_1": other("ig_sum_norm", beta=1.0),
    "ig_sum_norm_inner_5": other("ig_sum_norm", attack_m=5),
    "ig_sum_norm_longer": other("ig_sum_norm", epochs=4),
    "ig_sum_norm_longer_beta_1": other("ig_sum_norm", epochs=4, beta=1.0),
    "madry_longer": {"phases": [["madry", 5, INNER]], "threshold": None},
    "ig_norm": other("ig_norm"),
    "ig_norm_inner_5": other("ig_norm", attack_m=5),
    "ig_norm_longer": other("ig_norm", epochs=4),
    "madry_paper_rate": slow("madry"),
    "madry_paper_rate_longer": slow("madry", epochs=30),
    "ig_sum_norm_paper_rate": slow("ig_sum_norm", **NODES),
    "ig_sum_norm_paper_rate_longer": slow("ig_sum_norm", before=20, **NODES),
}


class Reusing(keras_rar.RARModel):
    """Starts an inner maximum where that of the same example ended last; fitted with row numbers for labels."""

    labels: tf.Tensor
    moved: tf.Variable  # x* − x of every row

    def train_step(self, data):
        x, self.rows = data
        return super().train_step((x, tf.gather(self.labels, self.rows)))

    def _make_step(self, part, head, loss):
        step = super()._make_step(part, head, loss)
        step.problem.start = functools.partial(self._start, step.problem.start)
        step.problem.inner_maximum = functools.partial(self._inner_maximum, step.problem.inner_maximum)
        return step

    def _start(self, start, x, ball, seed):
        last = tf.cast(tf.gather(self.moved, self.rows), x.dtype)
        is_new = tf.reduce_all(last == 0, axis=[1, 2, 3], keepdims=True)
        return tf.where(is_new, start(x, ball, seed), ball.project(x, x + last))

    def _inner_maximum(self, inner_maximum, x, y, *given):
        x_star = inner_maximum(x, y, *given)
        self.moved.scatter_nd_update(self.rows[:, None], tf.cast(x_star - x, tf.float16))
        return x_star


def reusing(y):
    """`keras_rar.wrap`, but for `Reusing`."""
    Reusing.labels = tf.constant(y)
    Reusing.moved = tf.Variable(tf.zeros([len(y), 28, 28, 1], tf.float16), trainable=False)

    def wrap(network, *arguments, seed, **options):
        return Reusing(network, keras_rar.wrap(network, *arguments, seed=seed, **options).regularizer, seed=seed)

    return mock.patch("keras_rar.training.phases.wrap", wrap)


def network(policy, initializer, threshold):
    keras.config.set_dtype_policy(policy)
    return networks.cnn(initializer=None if initializer == "paper" else initializer, threshold=threshold)


def split(data_dir=None):
    """55,000 of the training images, in any order, and the other 5,000, with their labels."""
    x, y = datasets.load("fashion_mnist", "train", data_dir=data_dir)
    order = np.random.default_rng(123).permutation(len(x))
    return [(x[rows], y[rows]) for rows in (order[:55000], order[55000:])]


def trial(name, dtype, data_dir, save):
    """Train, measure on validation images, and return the line of the results file."""
    settings = {**BASE, **TRIALS[name]}
    (x, y), validation = split(data_dir)
    keras.utils.set_random_seed(settings["seed"])
    trained = network(dtype, settings["initializer"], settings["threshold"])
    reuse = settings.get("reuse", False)
    processor = time.process_time()
    with reusing(y.astype("int32")) if reuse else contextlib.nullcontext():
        seconds = train(
            trained,
            x,
            np.arange(len(x)) if reuse else y,
            [Phase(*phase) for phase in settings["phases"]],
            dataset="fashion_mnist",
            verbose=0,
            **{key: settings[key] for key in ("learning_rate", "batch_size", "seed", "schedule", "average")},
        ).seconds
    processor = time.process_time() - processor
    model = network("float32", settings["initializer"], settings["threshold"])
    model.set_weights(trained.get_weights())
    if save:
        save.mkdir(parents=True, exist_ok=True)
        model.save(save / f"{name}.keras")
    x, y = validation
    natural = float(np.mean(model.predict(x, verbose=0, batch_size=500).argmax(axis=1) == y))
    pgd = PGDAttack(epsilon=0.1, steps=20, step_size=0.01, restarts=0, objectives=("crossentropy",))
    adversarial = float(np.mean(pgd(model, x, y).robust))
    report = keras_rar.evaluate_robustness(model, x[:200], y[:200], protocol=VALIDATION, progress=False)
    return {
        "name": name,
        "settings": settings,
        "dtype": dtype,
        "processor": describe()["processor"],
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "natural_accuracy": natural,
        "adversarial_accuracy": adversarial,
        "maps": {measure: report.summary()[measure] for measure in MEASURES},
    }


def table(results):
    """The trials as a Markdown table, in the order they have here."""
    titles = "trial | threshold | natural | adversarial | top-k | Kendall | processor seconds"
    rows = [f"| {titles} |", "|---|---|---|---|---|---|---|"]
    for name in sorted(results, key=list(TRIALS).index):
        result = results[name]
        accuracies = [f"{100 * result[measure]:.1f} %" for measure in ("natural_accuracy", "adversarial_accuracy")]
        cells = [str(result["settings"]["threshold"] or "none"), *accuracies]
        cells += [with_interval(measure, result["maps"][measure]) for measure in MEASURES]
        on = f"{result['processor'].split('(')[0]}, {result['dtype'].removeprefix('mixed_')}"
        cells.append(f"{result['processor_seconds']:.0f} ({on})")
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TRIALS, metavar="TRIAL", help="these trials")
    parser.add_argument("--table", action="store_true", help="print the results, run nothing")
    parser.add_argument("--dtype", default="mixed_bfloat16", help="policy of the training; on some machines slower")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--save", type=Path, help="folder to keep the trained networks in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--trial", choices=TRIALS, help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args()
    if arguments.trial:
        result = trial(arguments.trial, arguments.dtype, arguments.data_dir, arguments.save)
        with arguments.out.open("a") as file:
            file.write(json.dumps(result) + "\n")
        return
    for name in () if arguments.table else arguments.only or TRIALS:
        result = done(arguments.out).get(name)
        if result is None:
            print(name, flush=True)
            subprocess.run([sys.executable, __file__, "--trial", name, *sys.argv[1:]], check=True)  # noqa: S603
        elif result["settings"] != json.loads(json.dumps({**BASE, **TRIALS[name]})):
            raise SystemExit(f"{name} in {arguments.out} is of other settings: delete its line")
    print(table(done(arguments.out)))


def done(path):
    """The results so far, by name."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


if __name__ == "__main__":
    main()
