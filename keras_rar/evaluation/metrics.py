"""How alike the attribution maps before and after a perturbation are: functions per example, and Keras metrics.

Each metric is the mean of one of them over all examples seen. And how faithful maps are to a network.
"""

from typing import Any

import keras

from keras_rar.core import checks
from keras_rar.core.correlations import cosine_similarity, kendall_tau_b, pearson, spearman_rho
from keras_rar.core.mass_centers import mass_center, mass_center_distance
from keras_rar.core.top_sets import MEASURES, local_topk_intersection, odd_window, topk_intersection
from keras_rar.evaluation.ablation_curves import deletion, insertion
from keras_rar.evaluation.faithfulness import faithfulness, infidelity

__all__ = [
    "CosineSimilarity",
    "KendallTauB",
    "LocalTopKIntersection",
    "MassCenterDistance",
    "PearsonCorrelation",
    "SpearmanRho",
    "TopKIntersection",
    "cosine_similarity",
    "deletion",
    "faithfulness",
    "infidelity",
    "insertion",
    "kendall_tau_b",
    "local_topk_intersection",
    "mass_center",
    "mass_center_distance",
    "pearson",
    "spearman_rho",
    "topk_intersection",
]


class _MeanOverExamples(keras.metrics.Mean):
    """The weighted mean of `score(map_before, map_after)` over all examples seen."""

    def score(self, map_before: Any, map_after: Any) -> Any:
        raise NotImplementedError

    def update_state(self, map_before: Any, map_after: Any, sample_weight: Any = None) -> Any:
        return super().update_state(self.score(map_before, map_after), sample_weight)


@keras.saving.register_keras_serializable("keras_rar")
class KendallTauB(_MeanOverExamples):
    """Mean of `kendall_tau_b` over examples.

    Args:
        name: String. Defaults to `"kendall_tau"`.
        dtype: The dtype of the mean. Defaults to `None`, `keras.config.floatx()`.

    Example:

    >>> metric = KendallTauB()
    >>> metric.update_state([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    >>> float(metric.result())
    0.0
    """

    def __init__(self, name: str = "kendall_tau", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def score(self, map_before: Any, map_after: Any) -> Any:
        return kendall_tau_b(map_before, map_after)


@keras.saving.register_keras_serializable("keras_rar")
class SpearmanRho(_MeanOverExamples):
    """Mean of `spearman_rho` over examples.

    Args:
        name: String. Defaults to `"spearman_rho"`.
        dtype: The dtype of the mean. Defaults to `None`, `keras.config.floatx()`.

    Example:

    >>> metric = SpearmanRho()
    >>> metric.update_state([[1.0, 2.0, 3.0]], [[1.0, 9.0, 4.0]])
    >>> float(metric.result())
    0.5
    """

    def __init__(self, name: str = "spearman_rho", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def score(self, map_before: Any, map_after: Any) -> Any:
        return spearman_rho(map_before, map_after)


@keras.saving.register_keras_serializable("keras_rar")
class PearsonCorrelation(_MeanOverExamples):
    """Mean of `pearson` over examples.

    Args:
        name: String. Defaults to `"pearson"`.
        dtype: The dtype of the mean. Defaults to `None`, `keras.config.floatx()`.

    Example:

    >>> metric = PearsonCorrelation()
    >>> metric.update_state([[1.0, 2.0, 3.0]], [[6.0, 4.0, 2.0]])
    >>> float(metric.result())
    -1.0
    """

    def __init__(self, name: str = "pearson", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def score(self, map_before: Any, map_after: Any) -> Any:
        return pearson(map_before, map_after)


@keras.saving.register_keras_serializable("keras_rar")
class CosineSimilarity(_MeanOverExamples):
    """Mean of `cosine_similarity` over examples: of whole maps; that of Keras is along an axis.

    Args:
        name: String. Defaults to `"cosine_similarity"`.
        dtype: The dtype of the mean. Defaults to `None`, `keras.config.floatx()`.

    Example:

    >>> metric = CosineSimilarity()
    >>> metric.update_state([[3.0, 4.0]], [[-4.0, 3.0]])
    >>> float(metric.result())
    0.0
    """

    def __init__(self, name: str = "cosine_similarity", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def score(self, map_before: Any, map_after: Any) -> Any:
        return cosine_similarity(map_before, map_after)


@keras.saving.register_keras_serializable("keras_rar")
class TopKIntersection(_MeanOverExamples):
    """Mean of `topk_intersection` over examples.

    Args:
        k: Positive integer, below the number of entries of a map.
        name: String. Defaults to `"topk_intersection"`.
        dtype: The dtype of the mean. Defaults to `None`, `keras.config.floatx()`.

    Raises:
        ValueError: If `k` is not a positive integer; at the first update, if a map has no more entries.

    Example:

    >>> metric = TopKIntersection(k=2)
    >>> metric.update_state([[1.0, 2.0, 3.0, 0.0]], [[4.0, 1.0, 3.0, 2.0]])
    >>> float(metric.result())
    0.5
    """

    def __init__(self, k: int, name: str = "topk_intersection", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.k = checks.positive_int("k", k)

    def score(self, map_before: Any, map_after: Any) -> Any:
        return topk_intersection(map_before, map_after, self.k)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}


@keras.saving.register_keras_serializable("keras_rar")
class LocalTopKIntersection(_MeanOverExamples):
    """Mean of `local_topk_intersection` over examples.

    Args:
        k: Positive integer, below the number of entries of a map.
        window: Odd integer, the side of a window in pixels. Defaults to `3`.
        measure: `"recall"` or `"precision"`. Defaults to `"recall"`.
        name: String. Defaults to `"local_topk_intersection"`.
        dtype: The dtype of the mean. Defaults to `None`, `keras.config.floatx()`.

    Raises:
        ValueError: If an option is out of range; at the first update, if a map has no more than `k` entries, or a
            window holds all of it wherever it stands.

    Example:

    >>> metric = LocalTopKIntersection(k=1)
    >>> metric.update_state([[[1.0, 0.0, 0.0]]], [[[0.0, 1.0, 0.0]]])
    >>> float(metric.result())
    1.0
    """

    def __init__(
        self, k: int, window: int = 3, measure: str = "recall", name: str = "local_topk_intersection", dtype: Any = None
    ):
        super().__init__(name=name, dtype=dtype)
        self.k = checks.positive_int("k", k)
        self.window = odd_window(window)
        self.measure = checks.one_of("measure", measure, MEASURES)

    def score(self, map_before: Any, map_after: Any) -> Any:
        return local_topk_intersection(map_before, map_after, self.k, self.window, self.measure)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k, "window": self.window, "measure": self.measure}


@keras.saving.register_keras_serializable("keras_rar")
class MassCenterDistance(_MeanOverExamples):
    """Mean of `mass_center_distance` over examples, in pixels.

    Args:
        name: String. Defaults to `"mass_center_distance"`.
        dtype: The dtype of the mean. Defaults to `None`, `keras.config.floatx()`.

    Example:

    >>> metric = MassCenterDistance()
    >>> metric.update_state([[[1.0, 0.0, 0.0]]], [[[0.0, 0.0, 1.0]]])
    >>> float(metric.result())
    2.0
    """

    def __init__(self, name: str = "mass_center_distance", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def score(self, map_before: Any, map_after: Any) -> Any:
        return mass_center_distance(map_before, map_after)
