"""Whether batch normalisation goes on measuring batches while a method compares maps.

Maps are those of the network that will be deployed, which normalises by moving statistics. If the classification term
beside them were of another network, which normalises by each batch, the two would part: in training mode the loss is
small, and the deployed network is wrong.
"""

import warnings

import keras

from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.networks import batch_statistics

SETTINGS = ("auto", "frozen", "updated")


def decided(setting: str, model: keras.Model, regularizer: AbstractAttributionRegularizer, integrates: bool) -> str:
    """`"frozen"` or `"updated"` in place of `"auto"`, for a network with batch normalisation whose maps are trained.

    Statistics are frozen where there are any: of an adversarial training before `begin`, or of a network that was
    trained before. Once decided it stays, also in a file.
    """
    if setting != "auto" or not integrates or not batch_statistics.are_there(model):
        return setting
    if regularizer.begin or batch_statistics.were_measured(model):
        return "frozen"
    warnings.warn(
        "The statistics of batch normalisation were never measured, and the attribution term begins with the first "
        "update: train first with another method, or give `begin`, such as begin=0.8. Otherwise the network that "
        "is deployed can be wrong where the training's loss is small.",
        RuntimeWarning,
        stacklevel=3,
    )
    return "updated"
