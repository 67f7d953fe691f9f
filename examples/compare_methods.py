"""All methods at an equal budget of passes over the network: train, attack, one table with paired intervals, a figure.

    python examples/compare_methods.py                  # a small network, 6,000 images: about an hour on two cores
    python examples/compare_methods.py --network cnn    # the paper's network, all of Fashion-MNIST: a day
    python examples/compare_methods.py --methods madry ig_topk "ig_topk + 0.1 cure" --protocol strong --attacked 16

`ig_topk=8` is the method with a λ of 8. By default λ is what `benchmarks/choose.py` chose on the sixth of the training
images that is held out here. Started again, it goes on where it was stopped.
"""

import argparse
import sys
from pathlib import Path

import keras

import keras_rar
from keras_rar.paper import datasets

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from equal_budget import EVERY, NETWORKS, OTHER_MAPS, all_trained, split, written


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--methods", nargs="+", default=EVERY, help="names, or sums")
    parser.add_argument("--budget", type=float, default=222, help="passes over the network for each training image")
    parser.add_argument("--protocol", choices=["quick", "strong"], default="quick")
    parser.add_argument("--images", type=int, default=1000, help="images for the accuracies")
    parser.add_argument("--attacked", type=int, default=100, help="images whose maps are attacked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("compare_methods"))
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args()
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini" if options.network == "small" else "fashion_mnist")
    (x, y), _ = split(x, y)
    x_test, y_test, settings = x_test[: options.images], y_test[: options.images], {"attacked": options.attacked}
    if options.smoke:
        x, y, x_test, y_test, options.budget = x[:100], y[:100], x_test[:50], y_test[:50], 60
        settings = {"attacked": 2, "steps": 2, "m": 2, "pgd_steps": 2, "noise": 2, "faithful": 2}
    folder = options.out / f"{options.network}-{options.budget:g}{f'-seed{options.seed}' if options.seed else ''}"
    spent = all_trained(options.methods, options.network, x, y, options.budget, folder, options.seed)
    models = {name: keras.saving.load_model(folder / row["file"], compile=False) for name, row in spent.items()}
    kept = folder / options.protocol
    ball = {"epsilon": 0.1, "k": 100, "other_maps": OTHER_MAPS}
    comparison = keras_rar.compare(models, x_test, y_test, protocol=options.protocol, path=kept, **ball, **settings)
    base = next((name for name in models if name.partition("=")[0] == "ig_topk"), options.methods[0])
    print(written(comparison, {"base": base, "budget": options.budget, "trained": spent}, kept))


if __name__ == "__main__":
    main()
