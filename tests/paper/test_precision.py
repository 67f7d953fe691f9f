"""Which precision is taken, by the time that each takes."""

import pytest

from keras_rar.paper import precision


@pytest.mark.parametrize(
    ("bfloat16", "expected"), [(0.5, "mixed_bfloat16"), (0.79, "mixed_bfloat16"), (0.81, "float32"), (2.0, "float32")]
)
def test_bfloat16_is_taken_where_it_is_faster_by_a_quarter(monkeypatch, bfloat16, expected):
    monkeypatch.setattr(precision, "_seconds", {"bfloat16": bfloat16, "float32": 1.0}.get)
    assert precision.fastest_policy() == expected


def test_each_precision_is_timed():
    assert all(0 < precision._seconds(dtype) < 10 for dtype in ("bfloat16", "float32"))
