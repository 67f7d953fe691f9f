"""Training: `RARModel`, `wrap` and `unwrap`, recipes, and `train` with its phases.

May import core, networks and methods; never attacks, so that the adversaries of training and of evaluation stay apart.
"""

from keras_rar.training.batches import Batches, shuffled
from keras_rar.training.phased_training import train
from keras_rar.training.phases import Phase, Plan, TrainingResult

__all__ = ["Batches", "Phase", "Plan", "TrainingResult", "shuffled", "train"]
