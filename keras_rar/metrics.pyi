# For type checkers: `keras_rar/__init__.py` makes this name a module.
from keras_rar.evaluation.metrics import *
