"""The preprocessing and augmentation of the paper."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.paper.augmentation import balanced, equalized, pipeline, transformations


def reference_equalization(channel):
    """Of one channel of bytes, as OpenCV's `equalizeHist` is documented to do it."""
    counts = np.bincount(channel.ravel(), minlength=256)
    below = counts.cumsum()
    first = below[counts.nonzero()[0][0]]
    return np.rint((below - first) * 255 / (below[-1] - first))[channel]


def test_each_channel_of_each_image_is_equalized_by_itself():
    images = np.random.default_rng(0).integers(40, 120, size=(3, 32, 32, 3), dtype=np.uint8)
    images[1] //= 2
    expected = [np.stack([reference_equalization(image[..., c]) for c in range(3)], axis=-1) for image in images]
    np.testing.assert_array_equal(equalized(images), expected)


def test_transformations_move_and_keep_what_the_paper_says():
    x = np.zeros((200, 32, 32, 1), np.float32)
    x[:, 14:18, 14:18] = 200.0
    found = transformations(32, seed=3)(x, training=True).numpy()
    assert found.min() >= 0
    assert found.max() <= 200.001
    assert len({image.tobytes() for image in found}) == 200  # each its own
    rows = (found.sum(axis=(2, 3)) * np.arange(32)).sum(axis=1) / found.sum(axis=(1, 2, 3))
    assert rows.std() > 0.5
    assert np.abs(rows - 15.5).max() < 2.5 + 0.24 * 32


@pytest.mark.parametrize(("layer", "least", "most"), [(0, 0.05, 15.0), (1, 0.05, 2.5), (2, 0.05, 0.24 * 32)])
def test_each_transformation_does_its_part(layer, least, most):
    """A bar turns by at most 15°; a dot moves by at most 2.5 pixels, and no further than a corner."""
    x = np.zeros((200, 32, 32, 1), np.float32)
    if layer == 0:
        x[:, 15:17, 2:30] = 1.0
    else:
        x[:, 14:18, 14:18] = 1.0
    found = transformations(32, seed=3).layers[layer](x, training=True).numpy()[..., 0]
    i, j = np.mgrid[:32, :32] - 15.5
    mass = found.sum(axis=(1, 2))
    if layer == 0:
        second = [(found * part).sum(axis=(1, 2)) / mass for part in (i * j, j * j - i * i)]
        moved = np.degrees(0.5 * np.arctan2(2 * second[0], second[1]))
    else:
        moved = (found * i).sum(axis=(1, 2)) / mass
    assert moved.std() > least * most
    assert 0.5 * most < np.abs(moved).max() <= most + 0.2
    assert np.abs(moved.mean()) < 3 * moved.std() / np.sqrt(200) + 0.05 * most  # to either side


def test_a_seed_may_be_a_numpy_integer():
    x = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 1)).astype("float32")
    found, expected = (transformations(8, seed=seed)(x, training=True) for seed in (np.int64(3), 3))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"`seed` must be an integer from 0 to 4294967295\. Received: seed=-1"):
        transformations(8, seed=-1)


def test_a_balanced_set_has_every_original_once():
    labels = np.array([2, 0, 2, 2, 1])
    rows, is_new = balanced(labels, 4)
    assert sorted(rows[~is_new]) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(np.bincount(labels[rows]), [4, 4, 4])
    np.testing.assert_array_equal(np.bincount(labels[balanced(labels, 2)[0]]), [2, 2, 3])  # none is left out


def test_the_pipeline_is_balanced_and_transforms_copies_only():
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    labels = np.array([0, 0, 0, 0, 1])
    data = pipeline(images, labels, 4, batch_size=3, equalize=False)
    stream = [tuple(map(np.asarray, batch)) for batch in data.stream().take(2 * len(data))]
    epochs = [stream[: len(data)], stream[len(data) :]]
    for batches in epochs:
        x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
        np.testing.assert_array_equal(np.bincount(y), [4, 4])
        assert (x.min() >= 0, x.max() <= 255, x.dtype) == (True, True, "float32")
        originals = [image for image in x if any((image == other).all() for other in images)]
        assert len(originals) == 5
    assert not np.array_equal(np.concatenate([b[0] for b in epochs[0]]), np.concatenate([b[0] for b in epochs[1]]))


@pytest.mark.slow
@pytest.mark.parametrize("start", [1, 4])
def test_the_pipeline_goes_on_from_any_batch_on(start):
    """Transformations too, in a new process or behind what was made ahead."""
    images, labels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8), np.array([0, 0, 1])

    def made(data, first):
        return [x for x, _ in data.stream(first).take(6 - first).as_numpy_iterator()]

    data = pipeline(images, labels, 4, batch_size=3, equalize=False)
    whole = made(data, 0)
    assert len({x.tobytes() for x in whole}) == 6
    for again in (data, pipeline(images, labels, 4, batch_size=3, equalize=False)):
        np.testing.assert_array_equal(np.concatenate(made(again, start)), np.concatenate(whole[start:]))
    other = pipeline(images, labels, 4, batch_size=3, equalize=False, seed=1)
    assert not np.array_equal(np.concatenate(made(other, start)), np.concatenate(whole[start:]))


def test_the_pipeline_equalizes_image_by_image():
    images = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16, 1) // 4, np.full((16, 16, 1), 9, np.uint8)])
    (x, y), *_ = pipeline(images, np.array([0, 1]), 1, batch_size=2, equalize=True).stream().take(1)
    assert float(tf.reduce_max(x[int(y[0])])) == 255.0
    assert np.unique(x[1 - int(y[0])]).tolist() == [9]
