"""keras_rar: robust attribution for Keras 3 / TensorFlow classifiers.

Train with Robust Attribution Regularization (Chen et al., NeurIPS 2019): `keras_rar.wrap(model)`.
"""

import keras as _keras

if int(_keras.__version__.split(".")[0]) < 3 or _keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"keras_rar needs Keras 3 with the TensorFlow backend, not Keras {_keras.__version__} with "
        f"{_keras.backend.backend()!r}: set KERAS_BACKEND=tensorflow in the environment before keras is imported."
    )

from keras_rar import attacks, metrics
from keras_rar.callbacks import AttributionRobustness
from keras_rar.core import quadrature
from keras_rar.core.gradients import completeness_gap, input_gradient, integrated_gradients
from keras_rar.core.neighborhoods import L2Ball, LinfBall
from keras_rar.core.quadrature import QuadratureRule
from keras_rar.core.saliency import Saliency
from keras_rar.core.terms import Terms
from keras_rar.evaluation import evaluate_robustness
from keras_rar.export import export_saved_model
from keras_rar.map_regularizers import IGRRegularizer, IGTopKRegularizer
from keras_rar.model import RARModel
from keras_rar.protocols import Protocol
from keras_rar.regularizers import (
    AbstractAttributionRegularizer,
    IGNormRegularizer,
    IGSumNormRegularizer,
    MadryRegularizer,
    NaturalRegularizer,
)
from keras_rar.report import RobustnessReport
from keras_rar.saliency import baseline_report, saliency_map
from keras_rar.standardization import PerImageStandardization as _PerImageStandardization  # noqa: F401  to register it
from keras_rar.surrogates import softplus_twin
from keras_rar.threshold import firm_threshold
from keras_rar.wrapping import METHODS, unwrap, wrap

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "AbstractAttributionRegularizer",
    "AttributionRobustness",
    "IGNormRegularizer",
    "IGRRegularizer",
    "IGSumNormRegularizer",
    "IGTopKRegularizer",
    "L2Ball",
    "LinfBall",
    "MadryRegularizer",
    "NaturalRegularizer",
    "Protocol",
    "QuadratureRule",
    "RARModel",
    "RobustnessReport",
    "Saliency",
    "Terms",
    "attacks",
    "baseline_report",
    "completeness_gap",
    "evaluate_robustness",
    "export_saved_model",
    "firm_threshold",
    "input_gradient",
    "integrated_gradients",
    "metrics",
    "quadrature",
    "saliency_map",
    "softplus_twin",
    "unwrap",
    "wrap",
]

for _public in (LinfBall, L2Ball, QuadratureRule):  # the core does not know Keras
    _keras.saving.register_keras_serializable("keras_rar")(_public)
