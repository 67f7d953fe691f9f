"""One trial of a training recipe: full Fashion-MNIST, trained on 55,000 images, measured on the other 5,000.

    python benchmarks/study.py --phases '[["madry", 2], ["igr", 8, {"factor": 10.0}]]' --name longer

Appends a line to the results file. The test images are not touched: settings are chosen here.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

import keras_rar
from keras_rar.paper import datasets, networks
from keras_rar.paper.training import Phase, train

RESULTS = Path(__file__).parent / "results" / "study.jsonl"
VALIDATION = keras_rar.Protocol(
    "validation", epsilon=0.1, pgd_steps=20, pgd_restarts=0, steps=100, m=20, k=100, k_report=100, attacked=64
)


def network(policy, initializer, dead_zone=None):
    keras.config.set_dtype_policy(policy)
    return networks.cnn(initializer=None if initializer == "paper" else initializer, dead_zone=dead_zone)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", type=json.loads, required=True, help="[[method, epochs, options], ...]")
    parser.add_argument("--name", required=True)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--initializer", default="glorot_uniform", help="or: paper")
    parser.add_argument("--dead-zone", type=float, help="width; default: none")
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attacked", type=int, default=64)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--save", type=Path, help="folder to keep the trained network in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    x, y = datasets.load("fashion_mnist", "train", data_dir=arguments.data_dir)
    order = np.random.default_rng(123).permutation(len(x))
    kept, held_out = order[:55000], order[55000:]
    keras.utils.set_random_seed(arguments.seed)
    trained = network(arguments.dtype, arguments.initializer, arguments.dead_zone)
    phases = [Phase(*phase) for phase in arguments.phases]
    processor = time.process_time()
    seconds = train(
        trained,
        x[kept],
        y[kept],
        phases,
        dataset="fashion_mnist",
        learning_rate=arguments.learning_rate,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    processor = time.process_time() - processor
    model = network("float32", arguments.initializer)
    model.set_weights(trained.get_weights())
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
        model.save(arguments.save / f"{arguments.name}.keras")
    x, y = x[held_out], y[held_out]
    natural = float(np.mean(model.predict(x, verbose=0, batch_size=500).argmax(axis=1) == y))
    report = keras_rar.evaluate_robustness(
        model, x[:1000], y[:1000], protocol=VALIDATION, attacked=arguments.attacked, progress=False
    )
    settings = {name: value for name, value in vars(arguments).items() if name not in ("save", "out", "data_dir")}
    result = {
        **settings,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "natural_accuracy_5000": natural,
        "summary": report.summary(),
    }
    with arguments.out.open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
