"""A prototype head on frozen features: "this part of the image looks like that training patch", in plain Keras.

After ProtoPNet (Chen, Li, Tao, Barnett, Su & Rudin, NeurIPS 2019). Unlike theirs, the features are frozen and no layer
stands between them and the prototypes, so that two heads differ in their features alone.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from keras_rar.attacks import AttributionAttack

PER_CLASS = 10
CLASS = np.repeat(np.arange(10), PER_CLASS)
"""The class of each prototype."""
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Prototypes(layers.Layer):
    """`‖z − p‖²` of each place z of a grid of features and each prototype p, `(n, height, width, prototypes)`."""

    def build(self, shape):
        self.vectors = self.add_weight((len(CLASS), shape[-1]), name="vectors")

    def call(self, z):
        squares = ops.sum(z**2, -1, keepdims=True) + ops.sum(self.vectors**2, -1)
        return squares - 2 * ops.matmul(z, ops.transpose(self.vectors))


class SoftMax2D(layers.Layer):
    """`log(mean e^{βs}) / β` over all places: a maximum that every place has a gradient of."""

    def __init__(self, beta, **options):
        super().__init__(**options)
        self.beta = beta

    def call(self, s):
        places = s.shape[1] * s.shape[2]
        return (ops.logsumexp(self.beta * s, axis=(1, 2)) - np.log(places)) / self.beta


def log_similarity(distance):
    """`log((d + 1) / (d + 10⁻⁴))` of a squared distance: 9.2 at 0, and 0 far away (ProtoPNet, sec. 2.1)."""
    return ops.log((distance + 1) / (distance + 1e-4))


def cost(y, nearest):
    """0.8 of the distance to the nearest prototype of the label, less 0.08 of that to the nearest of another class.

    ProtoPNet's cluster and separation costs with its weights.

    Args:
        y: Labels.
        nearest: For each prototype its squared distance to the nearest patch of the image.
    """
    other = 1e3 * ops.cast(ops.reshape(y, (-1, 1)) != CLASS, "float32")
    return 0.8 * ops.min(nearest + other, -1) - 0.08 * ops.min(nearest + 1e3 - other, -1)


def with_prototypes(network, x, y, epochs=10, seed=0):
    """The frozen convolutions of a network with a prototype head, and `(image, row, column)` of each prototype.

    The prototypes begin as random patches of their class and are trained; then each becomes the nearest training patch
    of its class; then the last layer is trained alone. Features are scaled to a mean squared norm of 1, so that a
    similarity means the same for all networks.

    Args:
        network: A network of `examples/networks`; its first three layers are a grid of 8 × 8 features.
        x: Training images.
        y: Their labels.
        epochs: Epochs of each training.
        seed: Of the head.
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    convolutions = network.layers[:3]
    z = keras.Sequential([keras.Input(x.shape[1:]), *convolutions]).predict(x, verbose=0)
    scale = float(np.mean(np.sum(z**2, -1)) ** -0.5)
    z *= scale
    prototypes, last = Prototypes(), layers.Dense(10, use_bias=False)
    distances = prototypes(features := keras.Input(z.shape[1:]))
    nearest = -layers.GlobalMaxPooling2D()(-distances)
    head = keras.Model(features, [last(log_similarity(nearest)), nearest])
    drawn = [z[rng.choice(np.flatnonzero(y == c)), rng.integers(z.shape[1]), rng.integers(z.shape[2])] for c in CLASS]
    prototypes.vectors.assign(drawn)
    last.kernel.assign(1.5 * np.eye(10)[CLASS] - 0.5)  # 1 from a prototype to its class, −0.5 to the others
    head.compile(keras.optimizers.Adam(3e-3), [LOSS, cost])
    head.fit(z, [y, y], batch_size=50, epochs=epochs, verbose=0)

    found = keras.Model(features, distances).predict(z, verbose=0)
    found = [np.where((y == c)[:, None, None], found[..., j], np.inf) for j, c in enumerate(CLASS)]
    patches = [np.unravel_index(d.argmin(), d.shape) for d in found]
    prototypes.vectors.assign([z[patch] for patch in patches])
    of_similarities = keras.Sequential([keras.Input((len(CLASS),)), last])
    of_similarities.compile(keras.optimizers.Adam(3e-3), LOSS)
    similarities = log_similarity(head.predict(z, verbose=0)[1])
    of_similarities.fit(similarities, y, batch_size=50, epochs=epochs, verbose=0)

    similarity = [prototypes, layers.Activation(log_similarity), layers.GlobalMaxPooling2D()]
    first = [keras.Input(x.shape[1:]), *convolutions, layers.Rescaling(scale)]
    return keras.Sequential([*first, *similarity, last]), [tuple(map(int, patch)) for patch in patches]


def softened(model, beta):
    """The network with a soft maximum over places in place of the maximum, for attacks to take gradients through."""
    *first, _, last = model.layers
    return keras.Sequential([keras.Input(model.input_shape[1:]), *first, SoftMax2D(beta), last])


def similarities(model, x):
    """`(n, height, width, prototypes)` and what is left of it over all places, `(n, prototypes)`."""
    *first, pooling, _ = model.layers
    for layer in first:
        x = layer(x)
    return x, pooling(x)


def which(model, x, y):
    """How similar each prototype is to its patch of the image: the first entries of a map of the image's shape."""
    entries = x.shape[1] * x.shape[2]
    found = tf.pad(similarities(model, x)[1], [[0, 0], [0, entries - len(CLASS)]])
    return tf.reshape(found, [-1, x.shape[1], x.shape[2]])


def where(model, x, y):
    """The places of the label's most similar prototype, resized to the image as ProtoPNet shows them."""
    grid, found = similarities(model, x)
    own = tf.gather(tf.reshape(found, [-1, 10, PER_CLASS]), y, batch_dims=1)
    grid = tf.reshape(grid, [-1, grid.shape[1], grid.shape[2], 10, PER_CLASS])
    grid = tf.gather(tf.transpose(grid, [0, 3, 1, 2, 4]), y, batch_dims=1)
    if hasattr(model.layers[-2], "beta"):  # the choice of the prototype is soft, too
        chosen = tf.nn.softmax(model.layers[-2].beta * own)
    else:
        chosen = tf.one_hot(tf.argmax(own, axis=1), PER_CLASS, dtype=own.dtype)
    places = tf.einsum("nhwp,np->nhw", grid, chosen)
    return tf.image.resize(places[..., None], x.shape[1:3])[..., 0]


class SwapAttack(AttributionAttack):
    """Lower the k highest entries of a map and raise the k that are next: `Σ_{next k} M̃ᵢ − Σ_{i ∈ T_k(M)} M̃ᵢ`."""

    def __init__(self, k, epsilon, **options):
        self.k = k
        super().__init__(epsilon, k_report=k, **options)

    def objective(self, before, after):
        before, after = (tf.reshape(m, [tf.shape(m)[0], -1]) for m in (before, after))
        highest = tf.math.top_k(before, self.k).indices
        top = tf.reduce_sum(tf.one_hot(highest, before.shape[1], dtype=after.dtype), axis=1)
        others = tf.math.top_k(after - 1e6 * top, self.k).values
        return tf.reduce_sum(others, axis=1) - tf.reduce_sum(top * after, axis=1)
