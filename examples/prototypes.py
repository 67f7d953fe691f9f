"""Put a prototype head on the frozen features of a natural and of a robust network: does what it says survive?

"This part of the image looks like that training patch" (Chen, Li et al. 2019). The head itself, in plain Keras, is
`benchmarks/prototype_head.py`; docs/research/prototypes.md says what came out.
"""

import argparse
import sys
from pathlib import Path

import keras
import numpy as np

from keras_rar.attacks import RandomAttack, TopKAttack
from keras_rar.paper import datasets

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
from prototype_head import CLASS, similarities, which, with_prototypes  # noqa: E402


def sentence(model, image, patches):
    """What the head says of an image: the most similar prototype, and where."""
    grid, found = (np.asarray(part)[0] for part in similarities(model, image[None]))
    best = int(found.argmax())
    row, column = np.unravel_index(grid[..., best].argmax(), grid.shape[:2])
    number, *place = patches[best]
    return (
        f"the patch at ({row}, {column}) of 8 × 8 looks like that at {tuple(place)} of training image {number}, "
        f"class {CLASS[best]} (similarity {found[best]:.1f})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    smoke = parser.parse_args().smoke
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini")
    n, attacked, steps, epochs = (500, 4, 2, 1) if smoke else (len(x), 50, 50, 10)
    options = {"saliency": which, "steps": steps, "restarts": 1, "softplus_beta": None, "keep": "topk_intersection"}
    for name in ("natural", "ig_topk"):
        network = keras.saving.load_model(ROOT / f"examples/networks/{name}.keras", compile=False)
        model, patches = with_prototypes(network, x[:n], y[:n], epochs)
        accuracy = np.mean(model.predict(x_test, verbose=0).argmax(axis=1) == y_test)
        print(f"{name}: {accuracy:.1%} of test images right. The first of them: {sentence(model, x_test[0], patches)}")
        for title, attack in {
            "The attack": TopKAttack(k=5, epsilon=0.1, **options),
            "Noise": RandomAttack(epsilon=0.1, k_report=5, **options),
        }.items():
            found = attack(model, x_test[:attacked], y_test[:attacked])
            kept = np.nanmean(np.where(found.correct, found.scores["topk_intersection"], np.nan))
            print(f"  {title} leaves {kept:.0%} of the five most similar prototypes")
            print(f"  now {sentence(model, found.x_adv[0], patches)}")


if __name__ == "__main__":
    main()
