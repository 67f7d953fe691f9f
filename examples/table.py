"""Scikit-learn's table on diabetes, with an error of measurement per column: signed explanations, before and after."""

import argparse

import keras
import numpy as np
from sklearn.datasets import load_diabetes  # pip install scikit-learn

import keras_rar

# What two measurements of one patient may differ by, in the unit of the column; nothing changes the sex.
ERRORS = {
    "age": 0.5, "sex": 0, "body mass index": 0.3, "blood pressure": 5, "cholesterol": 6, "LDL": 6, "HDL": 2,
    "cholesterol / HDL": 0.3, "log triglycerides": 0.1, "glucose": 4,
}  # fmt: skip
NAMES, EPSILON = list(ERRORS), np.array([*ERRORS.values()])


def trained(method, x, y, ball, epochs, **options):
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(x)
    hidden = [keras.layers.Dense(32, "relu", kernel_regularizer=keras.regularizers.L2(1e-3)) for _ in range(2)]
    network = keras.Sequential([keras.Input((len(NAMES),)), scale, *hidden, keras.layers.Dense(2)])
    model = keras_rar.wrap(network, method, seed=0, **ball, **options)
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    smoke = parser.parse_args().smoke
    data = load_diabetes(scaled=False)
    order = np.random.default_rng(0).permutation(len(data.data))
    x, y = data.data[order].astype("float32"), (data.target > np.median(data.target)).astype("int64")[order]
    test = slice(300, 320) if smoke else slice(300, None)
    # A map explains the difference from the mean patient of the same sex: `None` is the value of the patient.
    baseline = [None if name == "sex" else float(mean) for name, mean in zip(NAMES, x[:300].mean(axis=0), strict=True)]
    ball = {"epsilon": EPSILON, "bounds": (x.min(axis=0) - EPSILON, x.max(axis=0) + EPSILON), "baseline": baseline}
    settings = {"steps": 2, "m": 2, "noise": 0, "other_maps": (), "faithful": 0} if smoke else {"steps": 20}
    settings |= {"attack": "ensemble", "k": 3, "progress": False}
    for method, options in {"natural": {}, "igr": {"factor": 2.0}}.items():
        model = trained(method, x[:300], y[:300], ball, epochs=1 if smoke else 60, **options)
        report = keras_rar.evaluate_robustness(model, x[test], y[test], **settings)
        print(f"\n{method}\n{report}")
        shown = report.examples
        label = y[test][row := shown["index"][0]]
        both = np.stack([shown["x"][0], shown["x_adv"][0]])
        before, after = keras_rar.saliency_map(model, both, [label] * 2, baseline=baseline, normalize=False)
        print(f"\nPatient {row}, class {label}: what speaks for it, before the attack and after")
        for i in np.argsort(-np.abs(before)):
            print(f"  {NAMES[i]:18}{shown['x'][0, i]:8.1f} {before[i]:+8.2f} {after[i]:+8.2f}")


if __name__ == "__main__":
    main()
