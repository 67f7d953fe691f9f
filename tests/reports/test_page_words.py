"""The page of a report: words, titles and warnings, names of classes and features, and nothing from elsewhere."""

import html
import re

import numpy as np
import pytest
from test_plotting import reported

from keras_rar.reports import page, page_parts, plotting

TABULAR = {"shape": (3,)}


@pytest.fixture
def pictures(monkeypatch):
    """What is drawn with which options, in place of the drawing, which takes its time."""
    drawn = []
    monkeypatch.setattr(
        page.parts, "picture", lambda figure, caption, numbers="": f"<figure>{caption} {numbers}</figure>"
    )
    monkeypatch.setattr(plotting, "plot_histogram", lambda report: drawn.append("histogram"))
    monkeypatch.setattr(plotting, "plot_maps", lambda report, index, **options: drawn.append(options))
    return drawn


def words_of(text):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text.partition("<body>")[2])).split())


def test_titles_have_epsilon_with_norm_and_units_and_k(pictures):
    text = page.to_html(reported([0.5], bounds=(0.0, 255.0)))
    assert "<title>Robustness of tiny, ε = 0.1 (L∞, inputs from 0 to 255), k = 3</title>" in text
    assert "<p>ε = 0.1 (L∞, inputs from 0 to 255), k = 3</p>" in text
    assert text.count("adversarial accuracy, ε = 0.1 (L∞)") == 2  # in the table and where it is explained
    assert text.count("top-3 intersection") == 2


@pytest.mark.parametrize(("shape", "noun"), [((5, 5, 1), "image"), ((3,), "example"), ((5, 5), "example")])
def test_only_images_are_called_images(shape, noun, pictures):
    words = words_of(page.to_html(reported([0.5, 0.6], shape=shape)))
    assert ("image" in words) == (noun == "image")
    assert f"4 {noun}s, one row each" in words
    assert f"Kendall's tau of each attacked {noun}" in words


def test_names_reach_the_figures(pictures):
    names = {"class_names": ["a", "b", "c"], "feature_names": ["x", "y", "z"]}
    reported([0.5], **TABULAR).to_html(**names)
    assert pictures[-1] == names


def test_counts_are_in_words(pictures):
    assert "2 examples. 1 is misclassified and left out of the attribution attack, 1 was attacked." in words_of(
        page.to_html(reported([0.5], **TABULAR))
    )
    nothing = reported([0.5], **TABULAR)
    for name in ("attacked", "correct"):
        nothing.per_example[name][:] = False
    nothing.examples.clear()
    words = words_of(page.to_html(nothing))
    assert "2 are misclassified and left out of the attribution attack, and none was attacked." in words
    assert "No map was attacked, so nothing is known of the explanations." in words
    assert "nan" not in words.lower().replace("explanation", "")


def test_scores_that_are_not_a_number_are_a_dash_and_said(pictures):
    words = words_of(page.to_html(reported([np.nan, 0.5], **TABULAR)))
    assert "Kendall's tau 0.500 – 1" in words
    assert "Mean 0.50, of 1 example" in words
    assert "The score of example 1 is undefined" in words
    assert "Kendall's tau of examples 1, 3: undefined, 0.50." in words


def test_the_page_needs_no_script_and_no_network():
    text = page.to_html(reported([0.5]))
    assert text.count("<img ") == 2
    assert "<script" not in text
    assert not re.search(r"https?:|@import|url\(|<link", re.sub(r'src="data:[^"]*"', "", text))


@pytest.mark.parametrize("bad", ["<script>alert('x')</script>&", 'a" onload="b'])
def test_what_is_not_the_pages_own_is_escaped(bad):
    table = page_parts.numbers([bad], [page_parts.row(bad, ["1"])], bad)
    text = table + page_parts.pairs({bad: bad}) + page_parts.warnings([bad])
    assert bad not in text
    assert "<script" not in text
