"""Attacks on a classifier's attributions, and on its predictions.

An attack is an object of settings, called on any Keras model: `attack(model, x, y) -> result`.

May import core, networks, methods and explaining; never training.
"""

from keras_rar.attacks.agreement import TwinAgreement
from keras_rar.attacks.attribution import AttributionAttack
from keras_rar.attacks.ensemble import EnsembleAttack
from keras_rar.attacks.kinds import MassCenterAttack, RandomAttack, TargetAttack, TopKAttack
from keras_rar.attacks.prediction import PGDAttack, PGDResult
from keras_rar.attacks.prediction_ensemble import PredictionEnsembleAttack, PredictionEnsembleResult
from keras_rar.attacks.results import AttackResult, EnsembleResult

__all__ = [
    "AttackResult",
    "AttributionAttack",
    "EnsembleAttack",
    "EnsembleResult",
    "MassCenterAttack",
    "PGDAttack",
    "PGDResult",
    "PredictionEnsembleAttack",
    "PredictionEnsembleResult",
    "RandomAttack",
    "TargetAttack",
    "TopKAttack",
    "TwinAgreement",
]
