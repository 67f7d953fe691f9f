"""Attack two small trained networks, one natural and one robust: a table, a picture and a page, within two minutes.

`examples/try_train.py` trained them on a tenth of Fashion-MNIST.
"""

import argparse
from pathlib import Path

import keras

import keras_rar
from keras_rar.paper import datasets
from keras_rar.reports import plotting

FOLDER = Path(__file__).parent / "networks"
SETTINGS = {"epsilon": 0.1, "steps": 20, "m": 10, "attacked": 30, "pgd_steps": 20, "k": 100}
ALONE = {"noise": 0, "other_maps": (), "faithful": 0}  # the attacks, without the controls of a report
CLASSES = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


def networks():
    return {name: keras.saving.load_model(FOLDER / f"{name}.keras") for name in ("natural", "ig_topk")}


def measured(models, x, y, smoke=False):
    """Both networks under the attack, and under noise of the same size as a control."""
    settings = SETTINGS | ({"steps": 2, "m": 2, "attacked": 4, "pgd_steps": 2, **ALONE} if smoke else {})
    print(f"Attacks on the predictions and on the maps of two networks, with epsilon = {settings['epsilon']}")
    found = keras_rar.compare(models, x, y, **settings)
    print("\nThe control: noise of the same size in place of the attack")
    noise = keras_rar.compare(models, x, y, **settings | ALONE | {"attack": "random", "pgd_steps": 1})
    return found, noise


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    parser.add_argument("--out", type=Path, default=Path("try"), help="folder for the picture and the page")
    arguments = parser.parse_args()
    x, y = (part[:200] for part in datasets.load("fashion_mnist_mini", "test"))
    found, noise = measured(networks(), x, y, arguments.smoke)
    print(f"\n{found.to_markdown()}\n")
    for name, row in noise.summary().items():
        print(f"Noise of the same size leaves {row['topk_intersection']['mean']:.0%} of the highest pixels of {name}.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    plotting.plot_maps(found.reports, class_names=CLASSES).savefig(arguments.out / "maps.png", dpi=150)
    (arguments.out / "report.html").write_text(found.to_html(class_names=CLASSES), "utf-8")
    print(f"Open {arguments.out / 'report.html'}; maps before and after the attack: {arguments.out / 'maps.png'}")


if __name__ == "__main__":
    main()
