"""Networks of other kinds than images: each is wrapped and updated, explained, and attacked by more than noise does."""

import keras
import numpy as np
import pytest

import keras_rar
from keras_rar import attacks

LAYERS = keras.layers
SERIES, VOLUMES, FILMS, IMAGES = (6, 4), (4, 4, 4, 1), (3, 6, 6, 1), (8, 8, 1)


def chain(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers, LAYERS.Flatten(), LAYERS.Dense(3)])


def attention(masked=False, layer=None, **options):
    inputs = keras.Input(SERIES)
    z = LAYERS.Masking()(inputs) if masked else inputs
    layer = LAYERS.MultiHeadAttention(2, 4) if layer is None else layer
    in_a_list = isinstance(layer, LAYERS.Attention)
    z = layer([z, z], **options) if in_a_list else layer(z, z, **options)
    z = LAYERS.LayerNormalization()(z)
    return keras.Model(inputs, LAYERS.Dense(3)(LAYERS.GlobalAveragePooling1D()(z)))


NETWORKS = {
    "recurrent": lambda: chain(SERIES, LAYERS.SimpleRNN(8)),
    "gru": lambda: chain(SERIES, LAYERS.GRU(8)),
    "lstm": lambda: chain(SERIES, LAYERS.LSTM(8, return_sequences=True)),
    "lstm, unrolled": lambda: chain(SERIES, LAYERS.LSTM(8, unroll=True)),
    "lstm, masked": lambda: chain(SERIES, LAYERS.Masking(), LAYERS.LSTM(8)),
    "bidirectional": lambda: chain(SERIES, LAYERS.Bidirectional(LAYERS.GRU(4))),
    "convolution of series": lambda: chain(SERIES, LAYERS.Conv1D(8, 3, activation="relu"), LAYERS.MaxPooling1D(2)),
    "separable, of series": lambda: chain(SERIES, LAYERS.SeparableConv1D(8, 3, activation="relu")),
    "each step": lambda: chain(SERIES, LAYERS.TimeDistributed(LAYERS.Dense(8, "relu"))),
    "convolution of volumes": lambda: chain(VOLUMES, LAYERS.Conv3D(4, 3, activation="relu"), LAYERS.MaxPooling3D(2)),
    "convolution of films": lambda: chain(FILMS, LAYERS.ConvLSTM2D(2, 3)),
    "attention": attention,
    "attention, masked": lambda: attention(masked=True),
    "attention of keras": lambda: attention(layer=LAYERS.Attention()),
    "attention, masked and causal": lambda: attention(masked=True, use_causal_mask=True),
    "attention, with a mask of its own": lambda: attention(attention_mask=np.tri(6, k=1, dtype=bool)[None]),
    "attention in groups": lambda: attention(masked=True, layer=LAYERS.GroupQueryAttention(4, 4, 2)),
    "additive attention, masked": lambda: attention(True, LAYERS.AdditiveAttention()),
    "batch normalisation": lambda: chain(
        IMAGES, LAYERS.Conv2D(4, 3), LAYERS.BatchNormalization(), LAYERS.Activation("relu")
    ),
    "separable": lambda: chain(
        IMAGES, LAYERS.SeparableConv2D(4, 3, activation="relu"), LAYERS.DepthwiseConv2D(3, strides=2)
    ),
    "transposed": lambda: chain(IMAGES, LAYERS.Conv2DTranspose(2, 3, strides=2, activation="relu")),
    "upsampled": lambda: chain(IMAGES, LAYERS.UpSampling2D(2), LAYERS.Conv2D(4, 3, activation="relu")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_updated_explained_and_attacked(name):
    base_model = NETWORKS[name]()
    shape = base_model.input_shape[1:]
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=(6, *shape)).astype("float32")
    y = base_model.predict(x, verbose=0).argmax(axis=1)

    maps = keras_rar.saliency_map(base_model, x, m=4)
    assert maps.shape == (6, *(shape if len(shape) < 3 else shape[:-1]))
    assert np.all(maps.std(axis=tuple(range(1, maps.ndim))) > 0)
    k, options = maps[0].size // 4, {"epsilon": 0.1, "steps": 10, "m": 3}
    found = attacks.TopKAttack(k, step_size=0.03, **options)(base_model, x, y)
    noise = attacks.RandomAttack(k_report=k, **options)(base_model, x, y)
    assert found.scores["topk_intersection"].mean() < noise.scores["topk_intersection"].mean()

    before = [np.array(weight) for weight in base_model.get_weights()]
    model = keras_rar.wrap(base_model, "ig_topk", steps=1, seed=0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()
    assert model.skipped_updates == 0
    assert any(np.any(old != new) for old, new in zip(before, base_model.get_weights(), strict=True))
