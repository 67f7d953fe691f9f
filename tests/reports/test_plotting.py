"""What the figures show is what was measured, and nothing of it overlaps."""

import dataclasses
import itertools
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg

import keras_rar
from keras_rar.attacks import AttackResult
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.reports import plotting

LONG = "a model with a name that is longer than any column of print is wide"


def attacked(n=6, shape=(5, 5, 1), scale=1.0, seed=0) -> AttackResult:
    rng = np.random.default_rng(seed)
    x = scale * rng.uniform(size=(n, *shape)).astype("float32")
    maps = rng.uniform(0.1, 2, size=(2, n, *(shape[:-1] if len(shape) == 3 else shape))).astype("float32")
    scores = {name: rng.uniform(0, 1, n).astype("float32") for name in ("kendall_tau", "topk_intersection")}
    return AttackResult(
        x=x,
        x_adv=np.clip(x + 0.1 * scale, 0, scale),
        y=np.arange(n) % 3,
        correct=np.arange(n) != 1,
        map_before=maps[0],
        map_after=maps[1],
        scores=scores,
        iteration=np.full(n, 3),
        restart=np.zeros(n, int),
    )


def reported(taus, bounds=(0.0, 1.0), seed=0, shape=(5, 5, 1)) -> RobustnessReport:
    """A report of images of which the odd rows were attacked."""
    taus = np.asarray(taus, "float32")
    n, rows = 2 * len(taus), np.arange(1, 2 * len(taus), 2)
    result = attacked(len(taus), shape, bounds[1], seed)
    table = {"index": np.arange(n), "label": np.arange(n) % 3, "predicted": np.arange(n) % 3}
    table["correct"] = np.arange(n) % 2 == 1
    table |= {"robust": np.arange(n) % 4 == 1, "attacked": table["correct"], "constant_map": np.zeros(n, bool)}
    for name in ("kendall_tau", "topk_intersection", "spearman_rho"):
        table[name] = np.full(n, np.nan, "float32")
        table[name][rows] = taus
    table["iteration"] = np.full(n, -1)
    table["iteration"][rows] = np.where(taus == 1, 0, 7)
    examples = {name: getattr(result, name) for name in ("x", "x_adv", "map_before", "map_after")} | {"index": rows}
    examples = {name: array[:8] for name, array in examples.items()}
    protocol = {"name": "quick", "epsilon": 0.1, "norm": "linf", "bounds": list(bounds), "k_report": 3, "seed": 0}
    return RobustnessReport("tiny", protocol, table, examples, {}, "")


def shown(axes):
    return axes.images[0].get_array()


def rows_of(figure, columns=4):
    return np.reshape(figure.axes, (-1, columns))


# Maps


@pytest.mark.parametrize("kind", ["attack", "report", "report of a cube", "bounds per channel"])
def test_images_with_channels_first_are_drawn_as_their_twins(kind):
    """In colour, the right way up: what is drawn does not depend on where the channels are."""
    shape = (3, 3, 3) if kind == "report of a cube" else (5, 4, 3)
    bounds = np.array([0.0, 0.1, 0.2]), np.array([1.0, 1.1, 1.2])
    if kind == "attack":
        last = attacked(2, shape)
        first = dataclasses.replace(last, x=np.moveaxis(last.x, -1, 1), x_adv=np.moveaxis(last.x_adv, -1, 1))
    else:
        last = reported([0.1, 0.2], shape=shape)
        moved = {name: np.moveaxis(last.examples[name], -1, 1) for name in ("x", "x_adv")}
        protocol = {**last.protocol, "data_format": "channels_first"}
        first = dataclasses.replace(last, examples={**last.examples, **moved}, protocol=protocol)
    indices = [1] if kind != "attack" else [0]
    options = [{"bounds": bounds}, {"bounds": [b[:, None, None] for b in bounds]}] if "bounds" in kind else [{}, {}]
    figures = [plotting.plot_maps(r, indices, **o) for r, o in zip((last, first), options, strict=True)]
    assert shown(figures[0].axes[0]).shape == shape
    for one, other in zip(*(figure.axes for figure in figures), strict=True):
        np.testing.assert_array_equal(shown(one), shown(other))


def test_plot_saliency_draws_channels_first_as_its_twin():
    last = attacked(2, (5, 4, 3))
    figures = [plotting.plot_saliency(x, last.map_before) for x in (last.x, np.moveaxis(last.x, -1, 1))]
    for one, other in zip(*(figure.axes for figure in figures), strict=True):
        np.testing.assert_array_equal(shown(one), shown(other))


def test_a_row_shows_image_map_attacked_image_and_its_map():
    result = attacked()
    figure = plotting.plot_maps(result, indices=[2, 5])
    assert len(figure.axes) == 8
    for i, row in zip([2, 5], rows_of(figure), strict=True):
        expected = [result.x[i, ..., 0], result.map_before[i], result.x_adv[i, ..., 0], result.map_after[i]]
        for axes, image in zip(row, expected, strict=True):
            np.testing.assert_allclose(shown(axes), image, rtol=1e-6)  # float32 images, drawn in float64
        assert not np.allclose(shown(row[1]), result.map_before[i - 1])  # negative control


def test_titles_hold_the_scores_and_labels():
    result = attacked()
    first, *_, last = plotting.plot_maps(result, indices=[5], class_names=["cat", "dog", "cow"]).axes
    assert first.get_title() == "image 5\ncow"
    tau, share = result.scores["kendall_tau"][5], result.scores["topk_intersection"][5]
    assert last.get_title() == f"τ = {tau:.2f}\ntop-k: {100 * share:.0f} %"
    assert plotting.plot_maps(result, indices=[5]).axes[0].get_title() == "image 5\nlabel 2"


def test_no_change_found_is_said():
    result = dataclasses.replace(attacked(), iteration=np.array([0, 0, 1, 1, 1, 1]))
    figure = plotting.plot_maps(result, indices=[0, 2])
    assert [row[3].get_title().startswith("no change\n") for row in rows_of(figure)] == [True, False]


def test_scores_and_k_of_a_report_are_those_of_the_image():
    report = reported([0.25, 0.5, 0.75])
    figure = plotting.plot_maps(report)
    assert [row[3].get_title() for row in rows_of(figure)] == [
        "τ = 0.25\ntop-3: 25 %",
        "τ = 0.50\ntop-3: 50 %",
        "τ = 0.75\ntop-3: 75 %",
    ]
    assert [row[0].get_title() for row in rows_of(figure)] == [
        "image 1\nlabel 1",
        "image 3\nlabel 0",
        "image 5\nlabel 2",
    ]


def test_models_alternate_and_are_named():
    results = {"natural": attacked(seed=0), "robust": attacked(seed=1)}
    rows = rows_of(plotting.plot_maps(results, indices=[3, 0]))
    assert [row[0].get_ylabel() for row in rows] == ["natural", "robust"] * 2
    for row, (i, name) in zip(rows, itertools.product([3, 0], results), strict=True):
        np.testing.assert_array_equal(shown(row[3]), results[name].map_after[i])


def test_both_maps_of_a_row_have_one_colour_scale():
    result = attacked()
    result.map_after[2] *= 3
    limits = [[axes.images[0].get_clim() for axes in row[1::2]] for row in rows_of(plotting.plot_maps(result, [0, 2]))]
    assert limits[0][0] == limits[0][1]
    assert limits[1][0] == limits[1][1]
    assert limits[0][0] != limits[1][0]  # negative control: the scale is the row's
    assert limits[1][0] == (0, pytest.approx(np.percentile([result.map_before[2], result.map_after[2]], 99.5)))


@pytest.mark.parametrize("shape", [(5, 5, 3), (5, 5, 1), (5, 5)])
def test_images_of_any_range_look_the_same(shape):
    small, large = attacked(shape=shape), attacked(shape=shape, scale=255.0)
    pictures = [shown(plotting.plot_maps(result, [4]).axes[2]) for result in (small, large)]
    np.testing.assert_allclose(*pictures, atol=1e-6)  # float32
    assert pictures[0].shape == ((5, 5, 3) if shape[-1] == 3 else (5, 5))
    other = shown(plotting.plot_maps(large, [4], bounds=(0, 510)).axes[2])
    np.testing.assert_allclose(2 * other, pictures[1], atol=1e-6)


def test_the_range_of_a_report_is_that_of_its_protocol():
    dark = reported([0.5], bounds=(0.0, 255.0))
    dark.examples["x"][:] = 1.0  # would be white in [0, 1]
    dark.examples["x_adv"][:] = 1.0
    assert shown(plotting.plot_maps(dark).axes[0]).max() == pytest.approx(1 / 255)


@pytest.mark.parametrize("value", [0.0, -3.0, 700.0])
def test_one_value_everywhere_is_drawn(value):
    result = attacked(2)
    result.x[:], result.x_adv[:] = value, value
    result.map_before[:], result.map_after[:] = 0, 0
    row = plotting.plot_maps(result, [0]).axes
    assert np.isfinite(shown(row[0])).all()
    assert row[1].images[0].get_clim() == (0, 1)


def test_maps_that_are_not_a_number_are_drawn():
    result = attacked(2)
    result.map_after[0] = np.nan
    limits = plotting.plot_maps(result, [0]).axes[1].images[0].get_clim()
    assert np.isfinite(limits).all()


@pytest.mark.parametrize("shape", [(7,), (1,), (2, 2, 2, 1)])
def test_other_inputs_are_bars_on_one_scale(shape):
    result = attacked(shape=shape)
    row = plotting.plot_maps(result, [2]).axes
    for axes, values in zip(row, [result.x, result.map_before, result.x_adv, result.map_after], strict=True):
        bars, edges, _ = axes.patches[0].get_data()
        np.testing.assert_array_equal(bars[::2], values[2].ravel())
        np.testing.assert_allclose(edges[::2] + 0.4, np.arange(values[2].size))
        assert not np.any(bars[1::2])  # the gaps
    assert row[1].get_ylim() == row[3].get_ylim()
    assert row[0].get_title().startswith("example 2")


@pytest.mark.parametrize("shape", [(300, 2, 1), (2, 300, 1)])
def test_inputs_that_are_nearly_a_line_are_stretched(shape):
    figure = plotting.plot_maps(attacked(shape=shape), [0])
    assert figure.axes[0].get_aspect() == "auto"
    assert 0.3 < figure.get_figheight() < 4
    assert plotting.plot_maps(attacked(), [0]).axes[0].get_aspect() == 1  # negative control


def test_by_default_four_that_all_have_and_that_are_classified_correctly():
    figure = plotting.plot_maps({"long": attacked(9), "short": attacked(4)})
    assert [row[0].get_title().split("\n")[0] for row in rows_of(figure)[::2]] == ["image 0", "image 2", "image 3"]
    assert len(rows_of(plotting.plot_maps(attacked(9)))) == 4


@pytest.mark.parametrize(
    ("results", "options", "error", "match"),
    [
        (attacked(), {"indices": [0, 6]}, ValueError, r"`indices` must be among .* has \[0, 1, 2, 3, 4, 5\]"),
        (attacked(), {"indices": []}, ValueError, "`indices` must"),
        (reported([0.5]), {"indices": [0]}, ValueError, r"has \[1\]. Received: indices=\[0\]"),
        ({"a": attacked(1), "b": reported([0.5])}, {}, ValueError, "`indices` must"),
        ({}, {}, ValueError, "`results` must be not empty"),
        ({"a": np.ones(3)}, {}, TypeError, "`results` must be AttackResult or RobustnessReport"),
        (attacked(), {"class_names": ["a"]}, ValueError, "`class_names` must have a name for label 2"),
        (attacked(), {"width": 0}, ValueError, "`width` must be a positive float"),
    ],
)
def test_bad_arguments(results, options, error, match):
    with pytest.raises(error, match=match):
        plotting.plot_maps(results, **options)


def test_saliency_beside_the_image():
    result = attacked(2)
    maps = {"ig": result.map_before, "gradient": result.map_after}
    rows = rows_of(plotting.plot_saliency(result.x, maps, titles=["one", "two"]), 3)
    assert [axes.get_title() for axes in rows[0]] == ["one", "ig", "gradient"]
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(shown(row[1]), result.map_before[i])
        np.testing.assert_array_equal(shown(row[2]), result.map_after[i])
    for arguments in [(result.x, result.map_before[:1]), (result.x[:1], result.map_before)]:
        with pytest.raises(ValueError, match="`maps` must hold one map per example"):
            plotting.plot_saliency(*arguments)
    with pytest.raises(ValueError, match="`titles` must hold one title per example"):
        plotting.plot_saliency(result.x, result.map_before, titles=["one"])


# Curves

CURVES = {
    "natural": {0.2: reported([0.1, 0.2, 0.4]), 0.1: reported([0.3, 0.5, 0.4])},
    "_robust $x$": {0.1: reported([0.8, 0.9]), 0.3: reported([0.7, 0.5])},
}


@pytest.mark.parametrize(("panel", "measure"), list(enumerate(plotting.CURVES)))
def test_curves_are_the_means_and_bands_the_intervals(panel, measure):
    axes = plotting.plot_curves(CURVES).axes[panel]
    scale = 1 if measure == "kendall_tau" else 100
    for line, band, curve in zip(axes.lines, axes.collections, CURVES.values(), strict=True):
        rows = [curve[epsilon].summary()[measure] for epsilon in sorted(curve)]
        np.testing.assert_array_equal(line.get_xdata(), sorted(curve))
        np.testing.assert_allclose(line.get_ydata(), [scale * row["mean"] for row in rows])
        vertices = {tuple(point) for point in band.get_paths()[0].vertices.round(9)}
        for epsilon, row in zip(sorted(curve), rows, strict=True):
            for end in ("low", "high"):
                assert (round(epsilon, 9), round(scale * row[end], 9)) in vertices
    assert axes.get_ylim() == (0, scale)


def test_curves_say_how_many_images():
    titles = [axes.get_title(loc="left") for axes in plotting.plot_curves(CURVES).axes]
    assert titles[0] == "adversarial accuracy (%), n = 4 to 6"
    assert titles[2] == "Kendall's tau, n = 2 to 3"
    one = plotting.plot_curves({"natural": CURVES["natural"]})
    assert one.axes[2].get_title(loc="left") == "Kendall's tau, n = 3"
    assert "L_\\infty" in one.axes[2].get_xlabel()


def test_a_negative_tau_is_inside_the_axes():
    axes = plotting.plot_curves({"inverted": {0.1: reported([-0.9, -0.5])}}).axes[2]
    assert axes.get_ylim()[0] < -0.7


def test_seven_models_differ_without_colour():
    lines = plotting.plot_curves({str(i): {0.1: reported([0.5])} for i in range(7)}).axes[0].lines
    assert len({line.get_marker() for line in lines}) == 7
    assert len({line.get_color() for line in lines}) == 7


def test_names_are_text_and_in_the_legend():
    figure = plotting.plot_curves(CURVES)
    figure.draw_without_rendering()
    labels = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    assert labels == ["natural", r"_robust \$x\$"]  # an escaped dollar begins no formula
    assert not figure.axes[0].lines[1].get_label().startswith("_")  # which matplotlib before 3.10 leaves out
    row = plotting.plot_maps({r"a$b$": attacked()}, [0]).axes
    assert row[0].get_ylabel() == r"a\$b\$"


@pytest.mark.parametrize("reports", [{}, {"natural": {}}])
def test_no_curve(reports):
    with pytest.raises(ValueError, match="`reports` must be"):
        plotting.plot_curves(reports)


# Histogram

TAUS = [0.11, 0.5, 0.5, 0.93, 1.0, 1.0]


ROUNDS = np.nextafter(0.9, 0)  # ten times this is 9.0


def bars(axes):
    return [patch.get_data() for patch in axes.patches]


def test_histogram_counts_with_shared_bins():
    figure = plotting.plot_histogram({"a": TAUS, "b": [-0.32, 0.2]}, bins=7)
    (a, edges, _), _ = bars(figure.axes[0])
    ((b, edges_b, _),) = bars(figure.axes[1])
    np.testing.assert_array_equal(edges, edges_b)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert edges[0] == pytest.approx(-0.4)
    assert edges[-1] == 1
    np.testing.assert_array_equal(a, np.histogram(TAUS, np.linspace(-0.4, 1, 8))[0])
    assert a.sum() == 6
    assert b.sum() == 2


def test_no_change_found_is_counted_and_hatched():
    figure = plotting.plot_histogram({"a": TAUS, "b": [0.2, 0.999]})
    first, second = figure.axes
    assert first.get_title(loc="left") == "a\nn = 6, mean 0.67 (dashed), no change found: 2 (hatched)"
    assert bars(first)[1][0].tolist() == [0] * 19 + [2]
    assert first.patches[1].get_hatch()
    assert second.get_title(loc="left").endswith("no change found: 0")
    assert len(second.patches) == 1


def test_no_change_of_results_is_that_of_the_attack_not_the_score():
    result = dataclasses.replace(attacked(), iteration=np.array([0, 0, 1, 1, 1, 1]))  # row 1 is misclassified
    result.scores["kendall_tau"][:] = 1
    title = plotting.plot_histogram(result).axes[0].get_title(loc="left")
    assert title == "n = 5, mean 1.00 (dashed), no change found: 1 (hatched)"
    title = plotting.plot_histogram({"r": reported([0.5, 1.0, 1.0])}).axes[0].get_title(loc="left")
    assert title == "r, ε = 0.1 (L∞, inputs from 0 to 1)\nn = 3, mean 0.83 (dashed), no change found: 2 (hatched)"


@pytest.mark.parametrize("values", [[], [1.0], [-1.0, 1.0], [0.3], [-1.0], [ROUNDS, 1.0], [-1.0, -ROUNDS]])
def test_bins_hold_every_value_and_stay_within_bounds(values):
    counts, edges, _ = bars(plotting.plot_histogram({"a": values}).axes[0])[0]
    assert counts.sum() == len(values)
    assert np.all(np.diff(edges) > 0)
    assert edges[0] >= -1
    assert edges[-1] <= 1


def test_undefined_values_are_counted_and_left_out():
    axes = plotting.plot_histogram([0.2, np.nan, 0.4]).axes[0]
    assert axes.get_title(loc="left") == "n = 3, mean 0.30 (dashed), no change found: 0, undefined: 1"
    assert bars(axes)[0][0].sum() == 2


@pytest.mark.parametrize(
    ("values", "bins", "match"),
    [([0.5], 0, "`bins` must be a positive integer"), ([0.5, 1.1], 20, "`results` must hold values from -1 to 1")],
)
def test_bad_histogram(values, bins, match):
    with pytest.raises(ValueError, match=match):
        plotting.plot_histogram(values, bins=bins)


# Report


def test_plot_report_is_four_examples_and_the_histogram():
    report = reported(np.linspace(0.1, 0.9, 6))
    figure = report.plot()
    assert len(figure.axes) == 4 * 4 + 1
    np.testing.assert_array_equal(shown(figure.axes[1]), report.examples["map_before"][0])
    assert bars(figure.axes[-1])[0][0].sum() == 6


def test_a_report_without_attacked_images_is_drawn():
    report = reported([])
    assert len(report.plot().axes) == 1
    assert report.plot().axes[0].get_title(loc="left") == "tiny, ε = 0.1 (L∞, inputs from 0 to 1)\nno map was attacked"


def test_an_axis_says_what_is_counted():
    def label(shape):
        return plotting.plot_histogram({"a": reported([0.5], shape=shape)}).axes[0].get_ylabel()

    assert [label(shape) for shape in [(5, 5, 1), (7,), (5, 5)]] == ["images", "examples", "examples"]
    assert plotting.plot_histogram([0.5]).axes[0].get_ylabel() == "examples"


def test_titles_have_epsilon_and_k():
    report = reported([0.5])
    assert plotting.plot_maps(report).axes[2].get_title() == "attacked\nε = 0.1 (L∞)"
    assert (
        plotting.plot_histogram({"a": report})
        .axes[0]
        .get_title(loc="left")
        .startswith("a, ε = 0.1 (L∞, inputs from 0 to 1)\n")
    )
    assert plotting.plot_curves({"a": {0.1: report}}).axes[1].get_title(loc="left").startswith("top-3 intersection (%)")
    other = reported([0.5])
    other.protocol["k_report"] = 4
    curves = {"a": {0.1: report, 0.2: other}}
    assert plotting.plot_curves(curves).axes[1].get_title(loc="left").startswith("top-k intersection (%)")


# Names of features

FEATURES = [f"feature {i}" for i in range(12)]


def test_bars_have_the_names_of_the_highest_entries_in_the_order_of_the_first_map():
    report = reported([0.5], shape=(12,))
    before, after = report.examples["map_before"][0], report.examples["map_after"][0]
    before[:], after[:] = np.arange(12) / 12, np.arange(12)[::-1] / 240
    after[0] = 9  # low before, highest after
    row = report.plot(feature_names=FEATURES).axes[:4]
    names = [label.get_text() for label in row[0].get_yticklabels()]
    assert names == [f"feature {i}" for i in [11, 10, 9, 8, 7, 6, 5, 4, 3, 0]]
    assert row[0].get_xlabel() == "highest 10 of 12"
    values = [report.examples[name][0] for name in ("x", "map_before", "x_adv", "map_after")]
    for axes, expected in zip(row, values, strict=True):
        widths = [bar.get_width() for bar in axes.patches]
        np.testing.assert_allclose(widths, expected[[11, 10, 9, 8, 7, 6, 5, 4, 3, 0]], rtol=1e-6)
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # from the top down
    assert row[1].get_xlim() == row[3].get_xlim()
    assert not row[1].get_yticklabels()


def test_few_entries_are_all_named_and_long_names_are_cut():
    result = attacked(shape=(3,))
    row = plotting.plot_maps(result, [0], feature_names=["a", "cost in $", LONG]).axes
    names = {label.get_text() for label in row[0].get_yticklabels()}
    assert names == {"a", r"cost in \$", "a model with a …"}
    assert row[0].get_xlabel() == ""


def test_maps_beside_their_examples_have_names_too():
    result = attacked(2, shape=(12,))
    rows = rows_of(plotting.plot_saliency(result.x, {"ig": result.map_before}, feature_names=FEATURES), 2)
    highest = int(np.argmax(result.map_before[1]))
    assert rows[1][0].get_yticklabels()[0].get_text() == f"feature {highest}"
    assert rows[1][1].patches[0].get_width() == pytest.approx(result.map_before[1].max())


@pytest.mark.parametrize(
    ("shape", "names", "match"),
    [
        ((12,), FEATURES[:3], "`feature_names` must hold one name per entry, 12. Received: 3 names"),
        ((12,), "a" * 12, "`feature_names` must hold one name per entry"),
        ((5, 5, 1), FEATURES, "`feature_names` must be None for inputs drawn as pictures"),
        ((5, 5), FEATURES, "`feature_names` must be None for inputs drawn as pictures"),
    ],
)
def test_names_that_do_not_fit_are_refused(shape, names, match):
    with pytest.raises(ValueError, match=match):
        reported([0.5], shape=shape).plot(feature_names=names)


def test_class_names_reach_the_figure_of_a_report():
    figure = reported([0.5]).plot(class_names=["cat", "dog", "cow"])
    assert figure.axes[0].get_title() == "image 1\ndog"


def test_scores_that_are_not_a_number_are_a_dash():
    report = reported([0.5, np.nan])
    assert plotting.plot_maps(report, [3]).axes[3].get_title() == "τ = –\ntop-3: –"


# Print


def texts_of(figure):
    """What is written, and its boxes in pixels."""
    FigureCanvasAgg(figure)
    figure.canvas.draw()
    hidden = set()  # ticks beyond the end of an axis exist, and are not drawn
    for axes, name in itertools.product(figure.axes, "xy"):
        axis = getattr(axes, f"{name}axis")
        low, high = sorted(axis.get_view_interval())
        ticks = axis.get_major_ticks()
        hidden |= {tick.label1 for tick in ticks if not low - 1e-9 <= tick.get_loc() <= high + 1e-9}
    texts = set(figure.findobj(matplotlib.text.Text)) - hidden
    assert min(text.get_fontsize() for text in texts if text.get_text().strip()) >= 6  # points: legible in print
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_visible()]
    return [(text, box) for text, box in boxes if text.strip() and box.width * box.height > 1]


def faults(figure):
    boxes, page = texts_of(figure), figure.bbox
    slack = 1.5  # pixels of 1/200 inch: boxes are rounded
    found = [
        text
        for text, box in boxes
        if box.x0 < -slack or box.y0 < -slack or box.x1 > page.x1 + slack or box.y1 > page.y1 + slack
    ]
    for (a, box_a), (b, box_b) in itertools.combinations(boxes, 2):
        width = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        height = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        if width > slack and height > slack:
            found.append((a, b))
    return found


NAMED = reported([0.25, 0.5], shape=(12,))
FIGURES = {
    "maps": lambda **o: plotting.plot_maps({"natural": attacked(), LONG: attacked(seed=1)}, [0, 2], **o),
    "colour": lambda **o: plotting.plot_maps(attacked(shape=(4, 7, 3), scale=255), class_names=["Ankle boot"] * 3, **o),
    "tabular": lambda **o: plotting.plot_maps({LONG: attacked(shape=(12,))}, **o),
    "named": lambda **o: plotting.plot_maps(
        {"small": NAMED, LONG: NAMED}, feature_names=[f"feature {i}" for i in range(11)] + [LONG], **o
    ),
    "comparison": lambda **o: keras_rar.compare(
        {"natural": reported([0.2, 0.5]), "_robust $x$": reported([0.5, 0.9]), LONG: reported([0.1, np.nan])}
    ).plot(**o),
    "saliency": lambda **o: plotting.plot_saliency(
        attacked(1).x, attacked(1).map_before, titles=["class 3, 0.987"], **o
    ),
    "curves": lambda **o: plotting.plot_curves({**CURVES, LONG: CURVES["natural"]}, **o),
    "histogram": lambda **o: plotting.plot_histogram({"natural": TAUS, LONG: TAUS, "x": TAUS, "none": []}, **o),
    "histograms": lambda **o: plotting.plot_histogram({LONG: reported([0.5]), "b": reported([0.5, 1.0])}, **o),
    "report": lambda **o: plotting.plot_report(reported(np.linspace(0.1, 0.9, 6)), **o),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_written_overlaps_or_leaves_the_page_at_column_width(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a layout that cannot be made, of a glyph that is missing
        assert faults(FIGURES[name]()) == []


def test_overlaps_would_be_found():
    assert faults(FIGURES["maps"](width=1.6))


@pytest.mark.slow
def test_pyplot_its_backend_and_settings_are_left_alone():
    before, backend, figures = dict(matplotlib.rcParams), matplotlib.get_backend(), pyplot.get_fignums()
    for draw in FIGURES.values():
        draw()
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend() == backend
    assert pyplot.get_fignums() == figures


@pytest.mark.parametrize("name", FIGURES)
def test_without_matplotlib_the_error_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[plot\]"'):
        FIGURES[name]()


def test_figures_are_saved_as_vectors(tmp_path):
    path = tmp_path / "maps.pdf"
    plotting.plot_maps(attacked()).savefig(path)
    assert path.read_bytes().startswith(b"%PDF")
