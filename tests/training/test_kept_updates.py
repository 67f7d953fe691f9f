"""What an update writes is finite or undone, and an epoch in which nothing was measured has no numbers."""

import keras
import numpy as np
import pytest
from conftest import batch, dense_model, wrapped

X, Y = batch(12)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
EAGERLY = {"run_eagerly": True}
NAN = np.full(12, np.nan, "float32")


def fit(model, x=X, y=Y, **options):
    return model.fit(x, y, **{"batch_size": 4, "shuffle": False, "verbose": 0, **options}).history


# Nothing measured


def metrics():
    return {
        "metrics": ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")],
        "weighted_metrics": [keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="ce")],
    }


class Counter(keras.metrics.Metric):
    """A metric that is no mean: it counts examples."""

    def __init__(self):
        super().__init__(name="counter")
        self.seen = self.add_weight(shape=(), initializer="zeros", name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen.assign_add(keras.ops.cast(keras.ops.shape(y_pred)[0], "float32"))

    def result(self):
        return self.seen


@pytest.mark.parametrize("how", [{}, EAGERLY], ids=["graph", "eager"])
def test_an_epoch_of_skipped_updates_has_no_numbers(how):
    """0 would be the best loss there is, and the worst accuracy; nothing was measured."""
    model = wrapped("ig_sum_norm", steps=1, compile={"metrics": ["accuracy", Counter()], **how})
    with pytest.warns(RuntimeWarning, match="skipped"):
        history = fit(model, sample_weight=NAN, epochs=2)
    assert set(history) == {"loss", "perturbed_loss", "ig_l1", "accuracy", "counter"}
    assert np.isnan(list(history.values())).all()
    healthy = fit(model)
    assert np.isfinite(list(healthy.values())).all()
    assert healthy["counter"] == [12.0]


def test_metrics_are_of_the_updates_that_were_kept():
    weight = np.ones(12, "float32")
    weight[4:8] = np.nan
    still = {"optimizer": keras.optimizers.SGD(0.0)}
    model = wrapped("natural", **still, compile={**metrics(), **EAGERLY})
    with pytest.warns(RuntimeWarning, match="skipped"):
        history = fit(model, sample_weight=weight)
    rows = np.r_[0:4, 8:12]
    expected = model.evaluate(X[rows], Y[rows], verbose=0, return_dict=True)
    for name in ("loss", "accuracy", "top", "ce"):
        assert history[name] == pytest.approx([expected[name]], rel=1e-5)


def test_a_callback_does_not_take_a_skipped_epoch_for_an_improvement():
    stop = keras.callbacks.EarlyStopping("loss", patience=9)
    model = wrapped("natural", compile=EAGERLY)
    first = fit(model, callbacks=[stop])["loss"][0]
    model.history = None
    again = keras.callbacks.EarlyStopping("loss", patience=9, baseline=first)
    with pytest.warns(RuntimeWarning, match="skipped"):
        fit(model, sample_weight=NAN, callbacks=[again])
    assert again.wait == 1


@pytest.mark.parametrize("how", [{}, EAGERLY], ids=["graph", "eager"])
def test_weights_that_are_all_zero_measure_nothing(how):
    """In training, in validation and in `evaluate`."""
    zero = np.zeros(12, "float32")
    model = wrapped("madry", steps=1, compile={**metrics(), **how})
    history = fit(model, sample_weight=zero, validation_data=(X, Y, zero))
    for name in ("loss", "perturbed_loss", "ce", "val_loss", "val_ce"):
        assert np.isnan(history[name]).all(), name
    assert np.isfinite(history["val_accuracy"]).all()  # it is not weighted
    evaluated = model.evaluate(X, Y, sample_weight=zero, verbose=0, return_dict=True)
    assert np.isnan([evaluated["loss"], evaluated["ce"]]).all()
    assert np.isfinite(model.evaluate(X, Y, verbose=0)).all()


# What is written


def normalized(features=4):
    return keras.Sequential(
        [keras.Input((features,)), keras.layers.BatchNormalization(), keras.layers.Dense(3, kernel_initializer="ones")]
    )


def state(model):
    return [np.array(variable) for variable in (*model.base_model.variables, *model.optimizer.variables)]


def assert_undone(model, x, y=Y):
    """The fit leaves everything as it was, and counts its update."""
    before, skipped = state(model), model.skipped_updates
    with pytest.warns(RuntimeWarning, match=r"would have become NaN or infinite: update undone \(\d+ so far\)"):
        history = fit(model, x, y, batch_size=12)
    for actual, expected in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert model.skipped_updates == skipped + 1
    assert np.isnan(list(history.values())).all()


HUGE = (X * 1e25).astype("float32")  # of a finite loss, since it is normalised; its variance is not


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, EAGERLY, {"jit_compile": True}], ids=["graph", "eager", "xla"])
def test_statistics_that_would_become_infinite(how):
    model = wrapped("natural", normalized(), bounds=None, optimizer="adam", compile=how)
    fit(model)
    assert_undone(model, HUGE)
    assert np.isfinite(fit(model)["loss"]).all()


def test_statistics_under_loss_scaling():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=2.0)
    model = wrapped("natural", normalized(), bounds=None, optimizer=optimizer)
    fit(model)
    assert_undone(model, HUGE)


def test_the_state_of_an_optimizer_that_would_become_infinite():
    """A gradient of 1e25 is finite, its square is not; the weights would stay finite."""
    loss = keras.losses.MeanSquaredError()
    model = wrapped("natural", dense_model(activation=None), loss, "adam", bounds=None, compile=EAGERLY)
    labels = np.eye(3, dtype="float32")[Y]
    fit(model, y=labels)
    assert_undone(model, (X * 1e12).astype("float32"), labels)


def test_weights_that_would_become_infinite():
    model = wrapped("natural", dense_model(activation=None), None, keras.optimizers.SGD(1e38), EAGERLY, bounds=None)
    assert_undone(model, (X * 1e4).astype("float32"))


def test_an_update_that_is_undone_can_stop_the_fit():
    model = wrapped("natural", normalized(), bounds=None, on_nonfinite="raise", compile={"steps_per_execution": 2})
    fit(model)
    before = state(model)
    with pytest.raises(FloatingPointError, match="would have become NaN or infinite"):
        fit(model, np.concatenate([HUGE[:4], X[4:]]))
    for actual, expected in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(actual, expected)  # also the second of the two steps left it


def test_what_was_infinite_before_may_stay_so():
    """A mask of −∞ among the weights that are not trained."""

    class Masked(keras.layers.Layer):
        def build(self, shape):
            self.mask = self.add_weight(shape=(3,), trainable=False)
            self.mask.assign([0.0, 0.0, -np.inf])

        def call(self, inputs):
            return inputs + 0 * keras.ops.exp(self.mask)

    model = wrapped("natural", keras.Sequential([dense_model(), Masked()]), compile=EAGERLY)
    assert np.isfinite(fit(model)["loss"]).all()
    assert model.skipped_updates == 0


def test_unguarded_the_statistics_are_infinite():
    """Negative control: plain Keras."""
    base_model = normalized()
    base_model.compile("sgd", LOSS)
    base_model.fit(HUGE, Y, verbose=0)
    assert np.isinf(np.array(base_model.layers[0].moving_variance)).all()
