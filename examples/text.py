"""Which words speak for the topic of a quotation, and do they still after an attack? Topics of Debian's `fortunes`."""

import argparse
from pathlib import Path

import keras
import numpy as np

import keras_rar

FOLDER, TOPICS = Path("/usr/share/games/fortunes"), ["computers", "politics", "science"]
TINY = ["the program runs on a computer", "the president won a vote", "a physicist measured the light of a star"]
METHODS = {"natural": {}, "ig_sum_norm": {}, "ig_topk": {"k": 3, "factor": 0.5}}
LENGTH, BALL = 32, {"layer": "embedding", "epsilon": 0.03}  # rows of the embedding have the length 1


def quotations(smoke):
    """Texts and their topics, in a random order."""
    if not (smoke or FOLDER.is_dir()):
        raise SystemExit(f"{FOLDER} must be there. Install the Debian package: apt-get install fortunes")
    parts = [[text] * 8 for text in TINY] if smoke else [(FOLDER / t).read_text("utf-8").split("\n%\n") for t in TOPICS]
    pairs = [(text, topic) for topic, part in enumerate(parts) for text in part if any(map(str.isalpha, text))]
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[i][0] for i in order], np.array([pairs[i][1] for i in order])


def trained(method, x, y, words, epochs):
    keras.utils.set_random_seed(0)
    unit = keras.constraints.UnitNorm(axis=1)  # or a network could grow its embedding instead of being robust
    rows = keras.layers.Embedding(words, 16, mask_zero=True, embeddings_constraint=unit, name="embedding")
    layers = [rows, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
    network = keras.Sequential([keras.Input((LENGTH,), dtype="int64"), *layers])
    model = keras_rar.wrap(network, method, **METHODS[method], **BALL)
    model.compile(keras.optimizers.Adam(0.003), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return network


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    smoke = parser.parse_args().smoke
    texts, y = quotations(smoke)
    vectorize = keras.layers.TextVectorization(2000, output_sequence_length=LENGTH)
    vectorize.adapt(texts)
    x, names, half = vectorize(texts).numpy(), vectorize.get_vocabulary(), len(y) * 2 // 3
    few = {"attacked": 4, "steps": 2, "m": 2, "pgd_steps": 2, "noise": 0} if smoke else {"attacked": 50}
    few |= {"k": 3, "other_maps": (), "faithful": 0, "progress": False}
    for method in METHODS:
        network = trained(method, x[:half], y[:half], len(names), 1 if smoke else 15)
        print(keras_rar.evaluate_robustness(network, x[half:], y[half:], **BALL, **few).to_markdown())
        signed = keras_rar.saliency_map(network, x[half:][:3], layer="embedding", normalize=False).sum(axis=-1)
        for row, values, topic in zip(x[half:], signed, y[half:], strict=False):
            first = [i for i in np.argsort(-np.abs(values))[:4] if row[i]]  # 0 is padding
            print(f"{method}, {TOPICS[topic]}: " + ", ".join(f"{names[row[i]]} {values[i]:+.2f}" for i in first))


if __name__ == "__main__":
    main()
