"""Three inputs and two outputs, on scikit-learn's diabetes: measurements that may be wrong, one output explained."""

import argparse

import keras
import numpy as np
from sklearn.datasets import load_diabetes  # pip install scikit-learn

import keras_rar

MEASURED = ["body mass index", "cholesterol", "LDL", "HDL", "cholesterol / HDL", "log triglycerides", "glucose"]
ERRORS = np.array([0.3, 6, 6, 2, 0.3, 0.1, 4])


def data():
    found = load_diabetes(scaled=False)
    order = np.random.default_rng(0).permutation(len(found.data))
    table, progress = found.data[order].astype("float32"), found.target[order]
    x = {"measured": table[:, [2, 4, 5, 6, 7, 8, 9]], "age": table[:, :1], "sex": table[:, 1].astype("int32") - 1}
    return x, {"progress": (progress > np.median(progress)).astype(int), "pressure": (table[:, 3] > 95).astype(int)}


def network(x):
    scale = keras.layers.Normalization()
    scale.adapt(x["measured"])
    specs = {"measured": ((7,), "float32"), "age": ((1,), "float32"), "sex": ((), "int32")}
    inputs = {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in specs.items()}
    parts = [scale(inputs["measured"]), inputs["age"] / 50, keras.layers.Embedding(2, 2)(inputs["sex"])]
    hidden = keras.layers.Dense(32, "relu")(keras.layers.Concatenate()(parts))
    return keras.Model(inputs, {name: keras.layers.Dense(2, name=name)(hidden) for name in ("progress", "pressure")})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    smoke = parser.parse_args().smoke
    keras.utils.set_random_seed(0)
    x, y = data()
    view = keras_rar.OneInput(network(x), perturbed=["measured"], output="progress")
    low, mean, high = (getattr(x["measured"], of)(axis=0) for of in ("min", "mean", "max"))
    ball = view.ball({"measured": ERRORS}, {"measured": (low - ERRORS, high + ERRORS)}, {"measured": mean})
    model = keras_rar.wrap(view.model, "igr", **ball)
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rows, labels, test = view.rows(x), y["progress"], slice(300, 320 if smoke else None)
    model.fit(rows[:300], labels[:300], batch_size=32, epochs=1 if smoke else 60, verbose=0)
    settings = {"steps": 2, "m": 2, "noise": 0, "other_maps": (), "faithful": 0} if smoke else {"steps": 20}
    settings |= {"attack": "ensemble", "k": 2, "progress": False}
    print(keras_rar.evaluate_robustness(model, rows[test], labels[test], **settings))
    maps = keras_rar.saliency_map(model, rows[test][:1], labels[test][:1], baseline=ball["baseline"], normalize=False)
    for name, share in zip(MEASURED, view.parts(maps)["measured"][0], strict=True):
        print(f"  {name:18}{share:+8.2f}")


if __name__ == "__main__":
    main()
