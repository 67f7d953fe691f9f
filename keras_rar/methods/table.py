"""The methods by name."""

from keras_rar.methods.loss_regularizers import MadryRegularizer, NaturalRegularizer
from keras_rar.methods.map_regularizers import IGRRegularizer, IGTopKRegularizer
from keras_rar.methods.norm_regularizers import IGNormRegularizer, IGSumNormRegularizer
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

METHODS: dict[str, type[AbstractAttributionRegularizer]] = {
    "natural": NaturalRegularizer,
    "madry": MadryRegularizer,
    "ig_norm": IGNormRegularizer,
    "ig_sum_norm": IGSumNormRegularizer,
    "igr": IGRRegularizer,
    "ig_topk": IGTopKRegularizer,
}
