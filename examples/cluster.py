"""Train and measure on several machines: start this script once for each worker, with `TF_CONFIG` set.

TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, "task": {"type": "worker", "index": 0}}'

The folder must be one that all workers can read. A worker that fails ends them all: start all of them again, and the
training goes on with the epoch that was interrupted.
"""

import argparse
import json
import os
import sys

import tensorflow as tf

STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()  # before anything else of TensorFlow

import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_rar  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", help="where backups, weights and the report go")
parser.add_argument("--method", default="ig_sum_norm", choices=keras_rar.METHODS)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--examples", type=int, default=500)
parser.add_argument("--smoke", action="store_true", help="one epoch of a few examples")
options = parser.parse_args()
epochs, examples = (1, 128) if options.smoke else (options.epochs, options.examples)
is_first = json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0

keras.utils.set_random_seed(0)  # the same on all workers, or each would shuffle in its own order
rng, labels = np.random.default_rng(0), np.arange(examples + 32) % 10  # data of yours: all on each worker
images = rng.uniform(0, 0.6, [len(labels), 10, 10, 1]).astype("float32")
images[np.arange(len(labels)), :, labels] += 0.3
x, y, x_test, y_test = images[32:], labels[32:], images[:32], labels[:32]

with STRATEGY.scope():
    layers = [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(10)]
    base_model = keras.Sequential([keras.Input((10, 10, 1)), *layers])
    model = keras_rar.wrap(base_model, method=options.method, epsilon=0.1, steps=3, seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])

backup = os.path.join(options.folder, "backup")
writing = {} if is_first else {"save_freq": sys.maxsize, "delete_checkpoint": False}  # the others only read it
callbacks = [keras.callbacks.BackupAndRestore(backup, **writing)]
model.fit(x, y, batch_size=64, epochs=epochs, shuffle=False, callbacks=callbacks, verbose=2 if is_first else 0)

settings = {"steps": 5, "m": 5, "batch_size": 8, "other_maps": (), "faithful": 0}  # a first look
report = keras_rar.evaluate_robustness(model, x_test, y_test, **settings, progress=is_first)
if is_first:
    model.save_weights(os.path.join(options.folder, "model.weights.h5"))
    np.savez(os.path.join(options.folder, "scores.npz"), **report.per_example)
    print(report)
