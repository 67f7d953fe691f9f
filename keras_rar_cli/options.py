"""What the options of `keras-rar` take: names to choose from, and numbers with their range.

The names are those of the package. They stand here again because the package loads TensorFlow; a test compares the two.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

NORMS = ["linf", "l2", "l1", "l0"]
ATTACKS = ["topk", "mass_center", "random", "ensemble"]
PREDICTION_ATTACKS = ["pgd", "ensemble"]
SALIENCIES = [
    "ig",
    "gradient",
    "gradient_x_input",
    "smoothgrad",
    "expected_gradients",
    "occlusion",
    "grad_cam",
    "lrp",
    "deeplift",
]
EXPLAINED = [*SALIENCIES, "guided_backprop", "deconvolution"]
TARGETS = ["logit", "loss", "probability"]
DATA_FORMATS = ["auto", "channels_last", "channels_first", "none", "rows"]
RULES = ["left", "right", "midpoint", "trapezoid", "gauss_legendre"]
PROTOCOLS = ["quick", "strong", "paper"]
DATASETS = ["mnist", "fashion_mnist", "gtsrb", "oxford_flower17"]

_SMALLEST, _LARGEST = 1.1754944e-38, 3.4028234e38  # normal numbers of float32, which networks compute in


def _number(text: str, kind: Callable[[str], Any], allowed: Callable[[Any], bool], words: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not allowed(value):
        raise argparse.ArgumentTypeError(f"must be {words}. Received: {text}")
    return value


def positive_float(text: str) -> float:
    """A radius or a length."""
    return _number(text, float, lambda value: _SMALLEST <= value <= _LARGEST, "a positive number")


def finite_float(text: str) -> float:
    """A value of the input."""
    return _number(text, float, lambda value: math.isfinite(value) and abs(value) <= _LARGEST, "a finite number")


def positive_int(text: str) -> int:
    """A count that must not be zero."""
    return _number(text, int, lambda value: value > 0, "a positive integer")


def nonnegative_int(text: str) -> int:
    """A count that may be zero, a class or a seed."""
    return _number(text, int, lambda value: value >= 0, "an integer >= 0")


def nodes(text: str) -> int | str:
    """A number of nodes, or `"auto"`."""
    return text if text == "auto" else _number(text, int, lambda value: value > 0, "a positive integer or auto")


def kinds_of_maps(text: str) -> list[str]:
    """Names of attribution methods with commas between them, or none."""
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    words = f"none, or some of {', '.join(SALIENCIES)} with commas between them"
    return _number(text, lambda _: names, lambda found: set(found) <= set(SALIENCIES), words)


METAVARS: dict[Any, str] = {positive_float: "X", finite_float: "X", positive_int: "N", nonnegative_int: "N"}
METAVARS |= {kinds_of_maps: "MAPS"}

SETTINGS: dict[str, tuple[Any, str]] = {
    "epsilon": (positive_float, "radius of the attacks, in the units of the input"),
    "norm": (NORMS, "norm of the ball"),
    "attack": (ATTACKS, "attack on the maps; random is the negative control, ensemble the worst of several"),
    "steps": (positive_int, "iterations of the attack on the maps"),
    "step_size": (positive_float, "length of its step"),
    "restarts": (nonnegative_int, "its random starts, in addition to the one at the input"),
    "k": (positive_int, "how many of the highest entries of the map --attack topk or ensemble lowers"),
    "k_report": (positive_int, "k of the top-k intersection in the report (default: k)"),
    "saliency": (SALIENCIES, "attribution method"),
    "target": (TARGETS, "score of the label that the maps explain"),
    "data_format": (DATA_FORMATS, "where inputs have their channels (default: auto, as the model has them)"),
    "rule": (RULES, "quadrature rule of integrated gradients"),
    "m": (positive_int, "number of nodes of the rule"),
    "baseline": (finite_float, "where maps that compare the input with a baseline begin"),
    "prediction_attack": (PREDICTION_ATTACKS, "attack on predictions; ensemble is the worst of several"),
    "pgd_steps": (positive_int, "iterations of the attack on predictions"),
    "pgd_step_size": (positive_float, "length of its step"),
    "pgd_restarts": (nonnegative_int, "its random starts, in addition to the one at the input"),
    "attacked": (positive_int, "attack the maps of the first N correctly classified examples only"),
    "seed": (nonnegative_int, "seed of random starts, random steps and the bootstrap"),
    "noise": (nonnegative_int, "attacked examples that noise, the control, is measured on; 0 for none"),
    "other_maps": (kinds_of_maps, "maps attacked besides, such as gradient,smoothgrad, or none"),
    "faithful": (nonnegative_int, "attacked examples whose maps are tested for faithfulness; 0 for none"),
    "certified": (nonnegative_int, "attacked examples whose smoothed maps are certified (default: 0)"),
}
"""Settings of a `Protocol` that the command line knows: the type or the choices, and the help."""
