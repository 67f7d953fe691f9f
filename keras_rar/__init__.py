"""keras_rar: robust attribution for Keras 3 / TensorFlow classifiers.

Train with Robust Attribution Regularization (Chen et al., NeurIPS 2019): `keras_rar.wrap(model)`.
"""

import sys as _sys

import keras as _keras

if int(_keras.__version__.split(".")[0]) < 3 or _keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"keras_rar needs Keras 3 with the TensorFlow backend, not Keras {_keras.__version__} with "
        f"{_keras.backend.backend()!r}: set KERAS_BACKEND=tensorflow in the environment before keras is imported."
    )

from keras_rar import attacks, training
from keras_rar.core import quadrature
from keras_rar.core.expected_gradients import ExpectedGradients
from keras_rar.core.gradients import input_gradient
from keras_rar.core.integration import completeness_gap, integrated_gradients
from keras_rar.core.neighborhoods import L0Ball, L1Ball, L2Ball, LinfBall
from keras_rar.core.network_maps import LRP, DeepLIFT, GradCAM
from keras_rar.core.occlusion import Occlusion
from keras_rar.core.quadrature import QuadratureRule
from keras_rar.core.saliency_methods import Saliency
from keras_rar.core.terms import Terms
from keras_rar.evaluation import metrics
from keras_rar.evaluation.callback import AttributionRobustness
from keras_rar.evaluation.certificate import Certificate
from keras_rar.evaluation.certify import certify
from keras_rar.evaluation.compare import compare
from keras_rar.evaluation.comparison import Comparison
from keras_rar.evaluation.evaluate import evaluate_robustness
from keras_rar.evaluation.protocols import Protocol
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.explaining.baselines import baseline_report
from keras_rar.explaining.saliency_maps import saliency_map
from keras_rar.methods.contrast_regularizers import AttributionalContrastRegularizer
from keras_rar.methods.correlation_regularizers import KendallRegularizer, LGARegularizer, PearsonRegularizer
from keras_rar.methods.geometry_regularizers import ARTRegularizer, SSRRegularizer
from keras_rar.methods.gradient_regularizers import (
    CURERegularizer,
    HessianRegularizer,
    InputGradientRegularizer,
    R2ETRegularizer,
)
from keras_rar.methods.loss_regularizers import LossChangeRegularizer, MadryRegularizer, NaturalRegularizer
from keras_rar.methods.map_regularizers import IGRRegularizer, IGTopKRegularizer
from keras_rar.methods.norm_regularizers import IGNormRegularizer, IGSumNormRegularizer
from keras_rar.methods.prior_regularizers import AttributionPriorRegularizer
from keras_rar.methods.probability_regularizers import MARTRegularizer, TRADESRegularizer
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.methods.sums import SumOfRegularizers
from keras_rar.methods.table import METHODS
from keras_rar.methods.wasserstein import WassersteinPrice
from keras_rar.networks.export import export_saved_model
from keras_rar.networks.one_input import OneInput
from keras_rar.networks.smoothing_block import SmoothingBlock
from keras_rar.networks.standardization import PerImageStandardization as _PerImageStandardization  # noqa: F401  to register it
from keras_rar.networks.surrogates import softplus_twin
from keras_rar.networks.threshold import firm_threshold
from keras_rar.reports import plotting
from keras_rar.training.model import RARModel
from keras_rar.training.wrapping import unwrap, wrap

__version__ = "0.1.0"

__all__ = [
    "LRP",
    "METHODS",
    "ARTRegularizer",
    "AbstractAttributionRegularizer",
    "AttributionPriorRegularizer",
    "AttributionRobustness",
    "AttributionalContrastRegularizer",
    "CURERegularizer",
    "Certificate",
    "Comparison",
    "DeepLIFT",
    "ExpectedGradients",
    "GradCAM",
    "HessianRegularizer",
    "IGNormRegularizer",
    "IGRRegularizer",
    "IGSumNormRegularizer",
    "IGTopKRegularizer",
    "InputGradientRegularizer",
    "KendallRegularizer",
    "L0Ball",
    "L1Ball",
    "L2Ball",
    "LGARegularizer",
    "LinfBall",
    "LossChangeRegularizer",
    "MARTRegularizer",
    "MadryRegularizer",
    "NaturalRegularizer",
    "Occlusion",
    "OneInput",
    "PearsonRegularizer",
    "Protocol",
    "QuadratureRule",
    "R2ETRegularizer",
    "RARModel",
    "RobustnessReport",
    "SSRRegularizer",
    "Saliency",
    "SmoothingBlock",
    "SumOfRegularizers",
    "TRADESRegularizer",
    "Terms",
    "WassersteinPrice",
    "attacks",
    "baseline_report",
    "certify",
    "compare",
    "completeness_gap",
    "evaluate_robustness",
    "export_saved_model",
    "firm_threshold",
    "input_gradient",
    "integrated_gradients",
    "metrics",
    "plotting",
    "quadrature",
    "saliency_map",
    "softplus_twin",
    "training",
    "unwrap",
    "wrap",
]

for _public in (LinfBall, L2Ball, L1Ball, L0Ball, QuadratureRule):  # the core does not know Keras
    _keras.saving.register_keras_serializable("keras_rar")(_public)

for _name in ("metrics", "plotting", "quadrature"):  # modules of rooms, imported as `keras_rar.metrics` and so on
    _sys.modules[f"keras_rar.{_name}"] = globals()[_name]
