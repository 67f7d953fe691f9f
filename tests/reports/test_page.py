"""The HTML page of a report."""

import base64
import dataclasses
import html.parser
import json
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model

import keras_rar
from keras_rar.reports import page

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Elements with their texts; fails where a tag is not closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag):
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]


def report_of(model, n=10, **settings):
    x, _ = batch(n, (6, 6, 1))
    y = model.predict(x, verbose=0).argmax(axis=1)
    y[0] = (y[0] + 1) % 3
    cheap = {"epsilon": 0.2, "steps": 2, "m": 2, "pgd_steps": 2, "batch_size": 4, "progress": False}
    cheap |= {"noise": 0, "other_maps": (), "faithful": 0}
    return keras_rar.evaluate_robustness(model, x, y, **cheap, **settings)


@pytest.fixture(scope="module")
def report():
    keras.utils.set_random_seed(0)
    return report_of(conv_model())


@pytest.fixture(scope="module")
def text(report):
    return report.to_html()


@pytest.mark.slow
def test_the_page_needs_nothing_else(text, report):
    assert text == page.to_html(report)
    parsed = Page(text)
    assert text.startswith("<!DOCTYPE html>\n")
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r'src="data:[^"]*"', "", text))
    assert not parsed.all("script") + parsed.all("link") + parsed.all("iframe")
    pictures = parsed.all("img")
    assert len(pictures) == 2
    for attributes, _ in pictures:
        kind, data = attributes["src"].split(",")
        assert kind == "data:image/png;base64"
        assert tf.io.decode_png(base64.b64decode(data)).shape[1] == 700
        assert len(attributes["alt"]) > 40


def test_the_page_holds_the_summary_with_all_digits(report, text):
    tables = Page(text).all("table")
    assert len(tables) == 4
    values = [float(attributes["value"]) for attributes, _ in Page(text).all("data")]
    expected = [row[key] for row in report.summary().values() for key in ("mean", "low", "high")]
    assert values[:15] == expected
    scores = [report.per_example[name] for name in ("topk_intersection", "kendall_tau", "spearman_rho")]
    attacked = report.per_example["attacked"]
    assert values[15:] == np.stack(scores, axis=1)[attacked].astype(float).ravel().tolist()
    assert f"{100 * report.summary()['natural_accuracy']['mean']:.1f} %" in tables[0][1]
    assert f"{report.summary()['kendall_tau']['mean']:.3f}" in tables[0][1]


def test_the_page_holds_counts_protocol_versions_and_every_image(report, text):
    parsed, counts = Page(text), report.counts
    words = " ".join(text.split())
    assert f"10 images. {counts['misclassified']} is misclassified" in words
    assert f"{counts['attacked']} were attacked. For {counts['unchanged']} of these no change was found" in words
    cells = [text for _, text in parsed.all("td")]
    for table in (report.protocol, report.versions):
        assert {str(value) for value in table.values()} <= set(cells)
    assert len(parsed.all("tr")) == 1 + 5 + len(report.protocol) + len(report.versions) + 1 + 10
    ((_, details),) = parsed.all("details")
    assert all(name.replace("_", " ") in details for name in report.per_example)
    assert report.fingerprint in text
    assert "viewport" in str(parsed.all("meta"))


def test_the_page_escapes_what_is_not_its_own(report):
    bad = "<script>alert('x')</script>&"
    protocol = {**report.protocol, "name": bad, "saliency": bad}
    text = page.to_html(dataclasses.replace(report, model_name=bad, protocol=protocol, versions={bad: bad}))
    parsed = Page(text)
    assert not parsed.all("script")
    assert sum(text.count(bad) for _, text in parsed.all("td")) == 3
    assert parsed.all("h1")[0][1] == f"Robustness of {bad}"


def test_the_page_without_matplotlib_says_so(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    parsed = Page(page.to_html(report))
    assert not parsed.all("img")
    assert any('pip install ".[plot]"' in text for _, text in parsed.all("p"))


def test_the_page_of_a_model_that_is_always_wrong():
    report = report_of(conv_model(), n=1)
    parsed = Page(report.to_html())
    assert len(parsed.all("img")) == 1
    assert "–" in parsed.all("table")[0][1]
    assert json.loads(report.to_json())["summary"]["kendall_tau"]["mean"] is None
