"""Robust predictions and explanations within an hour: Fashion-MNIST, the paper's network, two cores.

Trains, then measures with the paper's protocol, which takes longer than the training. Started again, it goes on where
it was stopped.
"""

import argparse
from pathlib import Path

from keras_rar.paper.experiment import Experiment
from keras_rar.paper.results_table import table
from keras_rar.training import Phase, Plan

THRESHOLD = 0.102  # somewhat more than ε
WHOLE = {"steps": 5, "step_size": 0.04}  # in all 2 ε: across the ball, from anywhere in it


def plan(epochs, factor, threshold):
    """Adversarial training, then IG-TOP-K; of maps from the threshold on, so that no segment crosses it."""
    maps = {"k": 100, "factor": factor, "baseline": threshold or 0.0}
    return Plan([Phase("madry", 4, WHOLE), Phase("ig_topk", epochs, {**WHOLE, **maps})])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--factor", type=float, default=12.0, help="λ: more for maps, less for predictions")
    parser.add_argument("--epochs", type=int, default=1, help="of IG-TOP-K")
    parser.add_argument("--plain", action="store_true", help="without the threshold, as in the paper; try --factor 4")
    parser.add_argument("--attacked", type=int, default=300, help="test images whose map is attacked")
    parser.add_argument("--dtype", default="fastest", help="policy of the training; the result is in float32")
    parser.add_argument("--data-dir", type=Path, help="folder of the official files; found or downloaded by default")
    parser.add_argument("--out", type=Path, default=Path("fashion_mnist_hour"))
    parser.add_argument("--smoke", action="store_true", help="a run on noise that only shows that it works")
    options = vars(parser.parse_args())
    epochs, factor = options.pop("epochs"), options.pop("factor")
    threshold = None if options.pop("plain") else THRESHOLD
    name = f"epochs{epochs}-factor{factor:g}{'' if threshold else '-plain'}-seed{options['seed']}"
    options |= {"plan": plan(epochs, factor, threshold), "threshold": threshold, "name": name, "restarted": 0}
    Experiment("fashion_mnist", "ig_topk", **options).run()
    print(table(options["out"], ["fashion_mnist"], ["ig_topk"]))


if __name__ == "__main__":
    main()
