"""Small networks of texts, and texts: integers, with 0 for padding."""

import keras
import numpy as np

WORDS, LENGTH, WIDTH = 12, 5, 3


def text_network(kind="pool", masked=True, activation="tanh", classes=3, dtype="int32", length=LENGTH):
    """A network of an embedding and, by its kind, what reads its rows."""
    tokens = keras.Input((length,), dtype=dtype)
    rows = keras.layers.Embedding(WORDS, WIDTH, "normal", mask_zero=masked, name="embedding")(tokens)
    if kind == "lstm":
        read = keras.layers.LSTM(4)(rows)
    elif kind == "convolution":
        read = keras.layers.Flatten()(keras.layers.Conv1D(2, 2, activation=activation)(rows))
    elif kind == "attention":  # a mask of the user's, and a shortcut
        mask = keras.ops.not_equal(tokens, 0)
        seen = keras.layers.MultiHeadAttention(1, 2)(rows, rows, attention_mask=mask[:, None, :])
        read = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization()(rows + seen), mask=mask)
    else:
        read = keras.layers.GlobalAveragePooling1D()(rows)
    if kind != "linear":
        read = keras.layers.Dense(6, activation)(read)
    return keras.Model(tokens, keras.layers.Dense(classes)(read))


def texts(n=8, classes=3, seed=0):
    """Words and padding, the first two shorter than the others, and labels."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, WORDS, (n, LENGTH))
    x[0, 2:], x[1, 4:] = 0, 0
    return x, rng.integers(0, classes, n)
