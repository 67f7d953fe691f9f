"""What the tests of the command line share: its files, and a way to run it in this process."""

import contextlib
import io
import zipfile

import keras
import numpy as np
import tensorflow as tf
from conftest import batch, conv_model, dense_model

from keras_rar_cli import command

X, Y = batch(10, (6, 6, 1))
CHEAP = ["--steps", "2", "--m", "2", "--pgd-steps", "2", "--batch-size", "4"]
CHEAP += ["--noise", "0", "--other-maps", "none", "--faithful", "0"]
IN_PYTHON = {"steps": 2, "m": 2, "pgd_steps": 2, "batch_size": 4}
IN_PYTHON |= {"noise": 0, "other_maps": [], "faithful": 0}


def write_files(folder):
    """Write a model, data and images into the folder, and what looks like them."""
    keras.utils.set_random_seed(0)
    model = conv_model()
    y = Y.copy()
    y[1:] = model.predict(X, verbose=0).argmax(axis=1)[1:]  # nearly all are classified correctly
    model.save(folder / "model.keras")
    dense_model().save(folder / "dense.keras")
    keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Lambda(lambda x: x)]).save(folder / "lambda.keras")
    np.savez(folder / "data.npz", x=X, y=y)
    np.savez(folder / "test.npz", x_test=X, y_test=y, x_train=X[:0])
    np.savez(folder / "large.npz", x=255 * X, y=y)
    np.savez(folder / "flat.npz", x=X[..., 0], y=y)
    np.savez(folder / "nan.npz", x=X * np.nan, y=y)
    np.savez(folder / "fewer.npz", x=X, y=y[:-1])
    np.savez(folder / "labels.npz", x=X, y=y + 3)
    np.savez(folder / "other.npz", images=X, labels=y)
    np.savez(folder / "scalar.npz", x=1.0, y=1)
    np.savez(folder / "objects.npz", x=np.array([{}], object), y=y)
    np.save(folder / "array.npy", X)
    (folder / "text.keras").write_text("no model")
    (folder / "text.npz").write_text("no data")
    (folder / "text.png").write_text("no image")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    (folder / "hdf5.h5").write_bytes(b"\x89HDF\r\n\x1a\n no more")
    with zipfile.ZipFile(folder / "nested.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
    (folder / "saved_model").mkdir()
    image = (255 * X[0]).round().astype("uint8")
    (folder / "image.png").write_bytes(tf.io.encode_png(image).numpy())
    (folder / "image.jpg").write_bytes(tf.io.encode_jpeg(np.tile(image, (5, 4, 3)), quality=100).numpy())
    return folder


def run(*arguments):
    """Exit code, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def one_line(err):
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("keras-rar: error: ")
    return lines[0]
