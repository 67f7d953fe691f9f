"""Similarities of padded maps are those of the maps without the padding."""

import numpy as np
import pytest

from keras_rar.core import correlations, padded, top_sets

FUNCTIONS = {
    "kendall_tau": (padded.padded_kendall, correlations.kendall_tau_b),
    "spearman_rho": (padded.padded_spearman, correlations.spearman_rho),
    "topk_intersection": (lambda a, b: padded.padded_topk(a, b, 2), lambda a, b: top_sets.topk_intersection(a, b, 2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_padding_does_not_count(name):
    """With ties, and with entries that are 0 in one of the maps alone. Counted, padding would raise it."""
    of_padded, of_all = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (2, 40, 7)).astype("float32")
    b[(a == 0) & (b == 0)] = 1
    longer = [np.pad(m, [(0, 0), (3, 20)]) for m in (a, b)]
    np.testing.assert_allclose(of_padded(*longer), of_all(a, b), atol=1e-6)
    if name != "topk_intersection":
        assert np.mean(of_all(*longer)) > np.mean(of_padded(*longer)) + 0.3  # the negative control


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_says_nothing_is_nan(name):
    """One entry; two of which two are compared; a map of equal entries."""
    of_padded, _ = FUNCTIONS[name]
    a = np.float32([[3, 0, 0, 0], [3, 3, 3, 0], [0, 0, 0, 0], [3, 2, 1, 0]])
    b = np.float32([[2, 0, 0, 0], [3, 2, 1, 0], [0, 0, 0, 0], [3, 2, 1, 0]])
    found = of_padded(a, b).numpy()
    assert np.isnan(found[:3]).all()
    assert found[3] == 1
