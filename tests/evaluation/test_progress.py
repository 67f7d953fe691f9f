"""The line that says how far an evaluation has come."""

import io
import itertools
import re
import time
import types

import pytest
from conftest import batch, dense_model

import keras_rar
from keras_rar.evaluation import progress as module
from keras_rar.evaluation.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def screen(monkeypatch):
    """What a terminal is sent."""
    terminal = Terminal()
    monkeypatch.setattr(module, "sys", types.SimpleNamespace(stdout=terminal, modules={}))
    monkeypatch.setattr(Progress, "PATIENCE", 600.0)
    return terminal


def test_the_time_left_is_that_of_what_is_left_and_leaves_out_compiling(clock, screen):
    with Progress("predictions", 10, "example", 2, visible=True) as bar:
        clock[0] += 60  # compiling
        bar.show(2.5)
        clock[0] += 3
        bar.show(4.0)  # 1.5 in 3 s: 6 take 12 s
        shown = screen.getvalue().split("\r")
        clock[0] += 12
        bar.show(10.0)
    assert shown[0] == "predictions: 10 examples, 2 done before\n"
    assert shown[-1] == " 4/10 [========............] 12 s left"
    last = screen.getvalue().split("\r")[-1]
    assert last.rstrip(" \n") == "10/10 [====================] in 1 min 15 s"
    assert last.endswith("\n")


def test_a_shorter_text_leaves_nothing_of_a_longer_one(clock, screen):
    with Progress("predictions", 10, "example", 0, visible=True) as bar:
        bar.show(1)
        clock[0] += 1000
        bar.show(2)
        clock[0] += 1
        bar.show(9)
    lines = screen.getvalue().split("\r")[1:]
    assert all(len(after) >= len(before.rstrip()) for before, after in itertools.pairwise(lines))


def test_a_terminal_is_written_to_ten_times_a_second_at_most(clock, screen):
    with Progress("predictions", 1000, "example", 0, visible=True) as bar:
        for done in range(1, 500):
            clock[0] += 0.01
            bar.show(done)
    assert screen.getvalue().count("\r") == pytest.approx(50, abs=3)


def test_a_file_gets_a_line_each_half_minute_and_the_last(clock, capsys):
    with Progress("attributions", 100, "image", 0, visible=True) as bar:
        for done in range(1, 101):
            clock[0] += 1
            bar.show(done)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "attributions: 100 images"
    assert lines[1:] == [
        "attributions:   1/100, begun",
        "attributions:  31/100, 1 min 9 s left",
        "attributions:  61/100, 39 s left",
        "attributions:  91/100, 9 s left",
        "attributions: 100/100, in 1 min 40 s",
    ]


def test_compiling_is_said_when_it_takes_long(monkeypatch, screen):
    monkeypatch.setattr(Progress, "PATIENCE", 0.01)
    with Progress("predictions", 10, "example", 0, visible=True) as bar:
        time.sleep(0.3)
        bar.show(1.0)
    assert "\r 0/10 [....................] compiling…\r" in screen.getvalue()


@pytest.mark.parametrize("show", [True, False])
def test_compiling_is_not_said_when_it_is_fast_or_over(monkeypatch, screen, show):
    monkeypatch.setattr(Progress, "PATIENCE", 0.2)
    with Progress("predictions", 10, "example", 0, visible=True) as bar:
        if show:
            bar.show(1.0)
    time.sleep(0.4)
    assert "compiling" not in screen.getvalue()


def test_nothing_is_written_where_nothing_is_to_be_seen(capsys, monkeypatch):
    monkeypatch.setattr(Progress, "PATIENCE", 0.01)
    for visible, done in ((False, 0), (True, 10)):  # not asked for, or all done before
        with Progress("predictions", 10, "example", done, visible=visible) as bar:
            time.sleep(0.05)
            bar.show(10)
    assert capsys.readouterr() == ("", "")


def test_an_interruption_ends_the_line(screen):
    bar = Progress("predictions", 10, "example", 0, visible=True)
    bar.__enter__()
    bar.show(1)
    bar.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert screen.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 0 s"), (59.4, "59 s"), (3599.7, "1 h 0 min"), (90061.0, "25 h 1 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.slow
def test_an_evaluation_tells_shares_of_a_batch(monkeypatch, screen, without_controls):
    """Within the only batch: segments that take long enough are told."""
    told = []
    show = Progress.show
    monkeypatch.setattr(Progress, "show", lambda self, done: told.append(done) or show(self, done))
    model, (x, y) = dense_model(activation="relu"), batch(6)
    keras_rar.evaluate_robustness(model, x, y, epsilon=0.1, steps=4, m=2, pgd_steps=4, attacked=2)
    assert len([done for done in told if done % 1]) >= 3
    text = screen.getvalue()
    assert re.search(r"predictions: 6 examples\n(\r.*)+6/6 \[=+\] in \d+ s *\n", text)
    assert re.search(r"attributions: \d examples?\n", text)


def test_the_end_is_told_once(clock, capsys):
    with Progress("attributions", 1, "image", 0, visible=True) as bar:
        bar.show(1.0)
        bar.show(1)
    assert capsys.readouterr().out == "attributions: 1 image\nattributions: 1/1, in 0 s\n"
