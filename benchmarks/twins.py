"""How strong the top-k attack on maps is through softplus twins of different sharpness, on networks of several kinds.

    python benchmarks/networks.py cnn_natural … --out networks
    python benchmarks/twins.py networks/cnn_natural.keras … --out benchmarks/results/twins.json

On training images of Fashion-MNIST, or with `--test` on test images; on faces and photographs of scikit-image for the
networks of fer and nsfwjs, and on training rows of the table. Results are kept as they come; a network that the file
has is left out. Prints a table of what the file holds.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import networks
import numpy as np
import skimage.data
import skimage.transform
import tensorflow as tf
from machine import describe

from keras_rar.attacks import RandomAttack, TopKAttack, agreement
from keras_rar.evaluation.intervals import mean_with_interval
from keras_rar.networks import surrogates
from keras_rar.networks.classifier import Classifier

FIXED = (1.0, 3.0, 10.0, 30.0, 100.0)
MEASURES = ("topk_intersection", "kendall_tau")
SMALL = {"epsilon": 0.1, "step_size": 0.0125, "steps": 20, "m": 8, "k": 100}


class Fed:
    """The replacement of the softplus twin with a sharpness that can be set: one compiled attack serves all."""

    def __init__(self):
        self.beta = tf.Variable(1.0)

    def __call__(self, x, negative_slope, max_value, threshold):
        def smooth(z):
            return tf.math.softplus(self.beta * z) / self.beta

        value = smooth(x - threshold)
        if max_value is not None:
            value -= smooth(x - max_value)
        return value - negative_slope * smooth(threshold - x) if negative_slope else value


def faces(test):
    """Faces of scikit-image, 64 x 64 in [-1, 1]."""
    chosen = skimage.data.lfw_subset()[:24] if test else skimage.data.lfw_subset()[50:74]
    return 2 * np.stack([skimage.transform.resize(face, (64, 64)) for face in chosen])[..., None] - 1


def photographs(test):
    """Crops of photographs of scikit-image, 224 x 224 in [0, 1]; there are few."""
    names = ("astronaut", "coffee") if test else ("chelsea", "rocket")
    images = [getattr(skimage.data, name)() for name in names]
    crops = [image[:, side] for image in images for side in (slice(None, 300), slice(-300, None))]
    return np.stack([skimage.transform.resize(crop, (224, 224)) for crop in crops])


def problem(name, network, test):
    """Inputs that the network gets right, and the settings of the attack."""
    if name == "fer":
        options = {
            **SMALL,
            "epsilon": 16 / 255,
            "step_size": 2 / 255,
            "k": 512,
            "bounds": (-1.0, 1.0),
            "baseline": -1.0,
        }
        return faces(test).astype("float32"), options
    if name == "nsfwjs":
        options = {**SMALL, "epsilon": 4 / 255, "step_size": 1 / 255, "k": 1000, "steps": 8, "m": 4}
        return photographs(test).astype("float32"), options
    x, y = (networks.cancers() if name == "tabular" else networks.fashion())[test]
    x, y = np.asarray(x[:200], "float32"), np.asarray(y[:200])
    x = x[network.predict(x, verbose=0).argmax(axis=1) == y][:24]
    return x, {**SMALL, "k": 5, "epsilon": 0.05, "step_size": 0.006} if name == "tabular" else SMALL


def study(name, network, test):
    """The scores of each variant, per example."""
    x, options = problem(name, network, test)
    classifier, noise = (
        Classifier(network),
        {key: value for key, value in options.items() if key not in ("k", "step_size")},
    )
    found = {"n": len(x), "options": options, "variants": {}}

    def keep(variant, result, **more):
        scores = {measure: [round(float(value), 5) for value in result.scores[measure]] for measure in MEASURES}
        found["variants"][variant] = {**more, "unmoved": int(np.sum(result.iteration == 0)), **scores}
        means = {measure: round(float(np.mean(scores[measure])), 3) for measure in MEASURES}
        print(name, variant, means, more, flush=True)

    start = time.perf_counter()
    keep("noise", RandomAttack(**noise, k_report=options["k"])(network, x))
    keep("none", TopKAttack(**options, softplus_beta=None)(network, x))
    chosen = agreement.found(classifier, tf.constant(x[: agreement.EXAMPLES]))
    if chosen is not None:
        own, fed = classifier.logits(x).numpy(), Fed()
        attack, twin = TopKAttack(**options), surrogates._Twin(network, fed, "fed")
        for variant, beta in {**{f"{beta:g}": beta for beta in FIXED}, "auto": chosen}.items():
            fed.beta.assign(beta)
            logits = agreement.twin_logits(classifier, beta, tf.constant(x))
            agrees = {
                "beta": beta,
                "predictions": round(agreement.same_predictions(classifier, logits, own), 3),
                "scores": round(agreement.correlation(logits, own), 5),
            }
            keep(variant, attack(network, x, gradient_model=twin), **agrees)
    return {**found, "seconds": round(time.perf_counter() - start)}


def table(results):
    """Means with 95 % intervals of the bootstrap, and how the automatic choice compares with the best fixed one."""
    order = ["noise", *(f"{beta:g}" for beta in FIXED), "none", "auto"]
    lines = [
        "| network | n | measure | " + " | ".join(order) + " | auto − best fixed |",
        "|---" * (len(order) + 4) + "|",
    ]
    for name, entry in results.items():
        variants = entry["variants"]
        for measure in MEASURES:
            values = {variant: np.array(variants[variant][measure]) for variant in order if variant in variants}
            cells = [_cell(values[variant]) if variant in values else "" for variant in order]
            last = ""
            if "auto" in values:
                cells[-1] = f"{cells[-1]}, β = {variants['auto']['beta']:g}"
                best = min((v for v in values if v not in ("noise", "auto")), key=lambda v: values[v].mean())
                last = f"{_cell(values['auto'] - values[best])}, best {best}"
            lines.append(f"| {name} | {entry['n']} | {measure} | " + " | ".join(cells) + f" | {last} |")
    return "\n".join(lines)


def _cell(values):
    row = mean_with_interval(values, seed=0)
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="*")
    parser.add_argument("--test", action="store_true", help="other images: settings were not chosen on these")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"machine": describe()}
    results = found.setdefault("test" if arguments.test else "training", {})
    for file in arguments.networks:
        if file.stem not in results:
            results[file.stem] = study(file.stem, keras.saving.load_model(file, compile=False), arguments.test)
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
