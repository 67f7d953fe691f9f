"""The settings that methods are trained with: the paper's, and fast ones, which are the defaults."""

from typing import Any

from keras_rar.core import checks

Options = dict[str, Any]


def _paper(epsilon: float, steps: int, step_size: float, attack_m: int, factor: float, beta: float, high: float):
    inner = {"epsilon": epsilon, "bounds": (0.0, high), "steps": steps, "step_size": step_size, "random_start": True}
    shared = {**inner, "rule": "right", "m": 50, "attack_m": attack_m}
    return {
        "natural": shared,
        "madry": shared,
        "ig_norm": {**shared, "factor": factor},
        "ig_sum_norm": {**shared, "beta": beta},
    }


PAPER: dict[str, dict[str, Options]] = {
    "mnist": _paper(0.3, 40, 0.01, 10, 1.0, 0.1, 1.0),
    "fashion_mnist": _paper(0.1, 20, 0.01, 10, 1.0, 0.1, 1.0),
    "gtsrb": _paper(8.0, 7, 2.0, 5, 1.0, 1.0, 255.0),
    "oxford_flower17": _paper(8.0, 7, 2.0, 5, 0.1, 0.1, 255.0),
}
"""Chen et al. 2019, sec. 5 and supplement: data set, method, arguments of its regularizer."""

RECIPES = ("fast", "paper")


def options(recipe: str, method: str, dataset: str | None = None) -> Options:
    """The arguments of a method's regularizer in a recipe.

    Args:
        recipe: `"paper"`, the exact settings for a `dataset`; or `"fast"`, the defaults of the method, with the ε and
            bounds of a `dataset` if one is named.
        method: A name in `keras_rar.METHODS`.
        dataset: `"mnist"`, `"fashion_mnist"`, `"gtsrb"` or `"oxford_flower17"`. Defaults to none, for `"fast"`.

    Raises:
        ValueError: If there is none of that name.

    Example:

    >>> options("paper", "ig_sum_norm", "mnist")["steps"]
    40
    """
    checks.one_of("recipe", recipe, RECIPES)
    if recipe == "paper":
        return dict(PAPER[checks.one_of("dataset", dataset, PAPER)][checks.one_of("method", method, PAPER["mnist"])])
    if dataset is None:
        return {}
    of_data = PAPER[checks.one_of("dataset", dataset, PAPER)]["natural"]
    return {name: of_data[name] for name in ("epsilon", "bounds")}
