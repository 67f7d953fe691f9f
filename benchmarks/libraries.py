"""Integrated gradients: this package against captum, alibi and Xplique, at an equal completeness gap.

The same network, with the same weights, and the same images. The rule is Gauss-Legendre, the default of captum and
alibi; Xplique has its own. Each library gets the smallest number of nodes that brings the median gap,
`|Σ IG − (f(x) − f(0))| / |f(x) − f(0)|`, below one percent; then they take turns.
A library that is not installed is left out; `make bench-libraries` installs them in an environment of their own.
"""

import argparse
import importlib.metadata
import json
import os
import time
from pathlib import Path

import keras
import numpy as np
from machine import describe

import keras_rar
from keras_rar.paper import datasets, networks

TOLERANCE = 0.01
NODES = (2, 3, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200)
BATCH = 100  # points evaluated at once, by those that take such a number


def ours(network):
    def explain(x, y, m):
        return keras_rar.saliency_map(network, x, y, method="ig", rule="gauss_legendre", m=m, normalize=False)

    return explain


def captum(network):
    import torch
    from captum.attr import IntegratedGradients

    class Twin(torch.nn.Module):
        """The same network in PyTorch, of the same weights; images as (n, 1, 28, 28)."""

        def __init__(self):
            super().__init__()
            convolution, second, dense, last = (layer.get_weights() for layer in network.layers if layer.weights)
            self.convolutions = [
                (torch.tensor(w.transpose(3, 2, 0, 1).copy()), torch.tensor(b)) for w, b in (convolution, second)
            ]
            self.matrices = [(torch.tensor(w.T.copy()), torch.tensor(b)) for w, b in (dense, last)]

        def forward(self, z):
            for weight, bias in self.convolutions:
                z = torch.nn.functional.conv2d(z, weight, bias, padding=2)
                z = torch.nn.functional.max_pool2d(torch.relu(z), 2)
            z = z.permute(0, 2, 3, 1).flatten(1)
            (weight, bias), (last, last_bias) = self.matrices
            return torch.nn.functional.linear(torch.relu(torch.nn.functional.linear(z, weight, bias)), last, last_bias)

    method = IntegratedGradients(Twin())

    def explain(x, y, m):
        found = method.attribute(
            torch.tensor(x.transpose(0, 3, 1, 2).copy()),
            target=torch.tensor(y),
            n_steps=m,
            internal_batch_size=BATCH,
        )
        return found.numpy().transpose(0, 2, 3, 1)

    return explain


def alibi(network):
    os.environ["USE_TORCH"] = "0"  # or the transformers that it imports load a PyTorch that clashes with TensorFlow
    from alibi.explainers import IntegratedGradients

    def explain(x, y, m):
        method = IntegratedGradients(network, n_steps=m, internal_batch_size=BATCH)
        return method.explain(x, target=y).attributions[0]

    return explain


def xplique(network):
    from xplique.attributions import IntegratedGradients

    def explain(x, y, m):
        method = IntegratedGradients(network, output_layer=None, batch_size=BATCH, steps=m, baseline_value=0.0)
        found = np.asarray(method.explain(x, keras.utils.to_categorical(y, 10)))
        return found.reshape(x.shape)

    return explain


LIBRARIES = {"keras_rar": ours, "captum": captum, "alibi": alibi, "xplique": xplique}


def version(name):
    return keras_rar.__version__ if name == "keras_rar" else importlib.metadata.version(name)


def gap(network, x, y, attributions):
    logits, at_zero = network(x).numpy(), network(np.zeros_like(x[:1])).numpy()[0]
    change = logits[np.arange(len(y)), y] - at_zero[y]
    return float(np.median(np.abs(attributions.reshape(len(x), -1).sum(axis=1) - change) / np.abs(change)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    (x, y), (x_test, _) = datasets.load("fashion_mnist_mini")
    network = networks.cnn(initializer="glorot_uniform")
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(x, y, epochs=3, batch_size=50, verbose=0)
    x = x_test[: arguments.images]
    y = network.predict(x, verbose=0).argmax(axis=1)
    contestants, results = {}, {}
    for name, build in LIBRARIES.items():
        try:
            explain = build(network)
            found = ((m, gap(network, x, y, np.asarray(explain(x, y, m)))) for m in NODES)
            m, left = next(((m, left) for m, left in found if left <= TOLERANCE), (None, None))
        except Exception as error:  # not installed, or not for these versions
            print(f"{name:10} left out: {type(error).__name__}: {str(error)[:100]}")
            continue
        if m is None:
            print(f"{name:10} left out: no number of nodes up to {NODES[-1]} brings the gap below {TOLERANCE}")
            continue
        contestants[name] = (explain, m)
        results[name] = {"version": version(name), "nodes": m, "gap": left, "seconds": []}
    for _ in range(arguments.rounds):
        for name, (explain, m) in contestants.items():
            start = time.perf_counter()
            explain(x, y, m)
            results[name]["seconds"].append(time.perf_counter() - start)
    for name, result in results.items():
        ratios = np.array(result["seconds"]) / np.array(results["keras_rar"]["seconds"])
        result["times ours"] = [float(np.median(ratios)), float(ratios.min()), float(ratios.max())]
        median, low, high = result["times ours"]
        print(
            f"{name:10} {result['version']:10} {result['nodes']:4} nodes, gap {result['gap']:.4f}, "
            f"{np.median(result['seconds']):7.3f} s, {median:.2f} [{low:.2f}, {high:.2f}] times ours"
        )
    if arguments.out:
        setting = {"machine": describe(), "images": len(x), "rounds": arguments.rounds}
        arguments.out.write_text(json.dumps({**setting, "libraries": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
