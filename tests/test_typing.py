"""The public functions as a type checker sees them: a user's script passes `mypy --strict`, a misspelt one does not."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_rar
from keras_rar.attacks import choices
from keras_rar.attacks.attribution import AttributionAttack
from keras_rar.explaining import saliency_maps
from keras_rar.methods import table
from keras_rar.methods.shared_options import SharedOptions

ROOT = Path(__file__).parents[1]
HEAD = """
import keras
import numpy as np
import numpy.typing as npt

import keras_rar
import keras_rar.metrics
import keras_rar.quadrature
from keras_rar.plotting import plot_maps

x: npt.NDArray[np.float32] = np.zeros((8, 4), np.float32)
y: npt.NDArray[np.int64] = np.zeros(8, np.int64)
base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
"""
SCRIPT = (
    HEAD
    + """
model = keras_rar.wrap(base, "ig_sum_norm", epsilon=0.1, norm="l2", beta=0.2, begin=0.75)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(x, y, epochs=2, validation_data=(x, y), callbacks=[keras_rar.AttributionRobustness(x, y, epsilon=0.1)])
x_star = model.perturb(x, y, seed=0)
report = keras_rar.evaluate_robustness(model, x, y, epsilon=0.1, norm="linf", steps=3, k=2, attack="topk")
text: str = report.to_markdown()
mean: float = report.summary()["kendall_tau"]["mean"]
comparison = keras_rar.compare({"natural": base, "robust": model}, x, y, epsilon=0.1, attacked=4)
page: str = comparison.to_html()
certificate = keras_rar.certify(model, x, y, sigma=0.1, smoothing="uniform", k=2)
lower: npt.NDArray[np.float64] = certificate.topk_lower
maps = keras_rar.saliency_map(model, x, y, "gradient_x_input", target="probability")
attack = keras_rar.attacks.TopKAttack(k=2, epsilon=0.1, steps=3, rule="midpoint", m=5)
result = attack(model, x, y)
figure = plot_maps({"robust": result}, indices=[0])
rest: bool = bool(result.map_after.shape == maps.shape)
pgd = keras_rar.attacks.PGDAttack(0.1, objectives=("margin",))(model, x, y)
tau = keras_rar.metrics.kendall_tau_b(maps, result.map_after)
metric = keras_rar.metrics.KendallTauB()
metric.update_state(maps, maps)
rule: keras_rar.QuadratureRule = keras_rar.quadrature.midpoint(3)
ball = keras_rar.LinfBall(0.1)
keras_rar.export_saved_model(keras_rar.unwrap(model), "served")


class Mine(keras_rar.AbstractAttributionRegularizer):
    def objective(self, terms: keras_rar.Terms) -> object:
        return terms.perturbed_loss


mine = keras_rar.wrap(base, Mine(epsilon=0.2))
"""
)
WRONG = {
    'keras_rar.wrap(base, "ig_sum_nrom")': "arg-type",
    'keras_rar.wrap(base, "madry", epsilom=0.1)': "call-arg",
    'keras_rar.wrap(base, "madry", norm="l3")': "arg-type",
    'keras_rar.wrap(base, "ig_norm", steps="many")': "arg-type",
    'keras_rar.IGTopKRegularizer(rule="simpson")': "arg-type",
    "keras_rar.evaluate_robustness(base, x, y, epsilom=0.1)": "call-arg",
    'keras_rar.evaluate_robustness(base, x, y, epsilon=0.1, attack="topq")': "arg-type",
    'keras_rar.compare({"a": base, "b": base}, x, y, epsilom=0.1)': "call-arg",
    'keras_rar.certify(base, x, norm="linf")': "arg-type",
    'keras_rar.saliency_map(base, x, method="lime")': "arg-type|call-overload",
    'keras_rar.saliency_map(base, x, target="score")': "arg-type|call-overload",
    "keras_rar.attacks.TopKAttack(k=2, epsilon=0.1, stepz=3)": "call-arg",
    'keras_rar.attacks.PGDAttack(0.1, norm="l3")': "arg-type",
    "keras_rar.AttributionRobustness(x, y, evry=2)": "call-arg",
    'keras_rar.AttributionRobustness(x, y, unit="step")': "arg-type",
    "keras_rar.IGNormRegularizer(factr=2.0)": "call-arg",
    "keras_rar.metrics.kendall_taub(x, x)": "attr-defined",
    "keras_rar.quadrature.simpson(3)": "attr-defined",
    "keras_rar.unwarp(base)": "attr-defined",
    "keras_rar.wrap(base).regularizer.epsilom": "attr-defined",
    "keras_rar.evaluate_robustness(base, x, y, epsilon=0.1).to_markdwon()": "attr-defined",
}
"""A line that is wrong, and the kind of error that mypy gives."""
OF_TYPE = {
    'keras_rar.wrap(base, "madry")': "RARModel",
    "keras_rar.evaluate_robustness(base, x, y, epsilon=0.1)": "RobustnessReport",
    'keras_rar.compare({"a": base, "b": base}, x, y, epsilon=0.1)': "Comparison",
    "keras_rar.attacks.TopKAttack(k=2, epsilon=0.1)(base, x, y)": "AttackResult",
    "keras_rar.attacks.PGDAttack(0.1)(base, x, y)": "PGDResult",
    "keras_rar.attacks.RandomAttack(epsilon=0.1)": "RandomAttack",
    "keras_rar.saliency_map(base, x)": "ndarray",
    "keras_rar.saliency_map(base, x, return_completeness=True)": "tuple.*ndarray.*Completeness",
    "keras_rar.metrics.KendallTauB()": "KendallTauB",
    "keras_rar.AttributionRobustness(x, y, epsilon=0.1)": "AttributionRobustness",
    "keras_rar.LinfBall(0.1)": "LinfBall",
    "keras_rar.quadrature.midpoint(3)": "QuadratureRule",
    'keras_rar.METHODS["madry"]': "AbstractAttributionRegularizer",
    "keras_rar.wrap(base).regularizer": "AbstractAttributionRegularizer",
}
"""An expression, and what its type must name: never `Any`, which lets everything pass."""


def mypy(folder, script):
    """What mypy prints of a script. Keras has no types of its own, so what comes from Keras itself is `Any`."""
    (folder / "script.py").write_text(script, "utf-8")
    (folder / "mypy.ini").write_text(
        f"[mypy]\nstrict = True\nmypy_path = {ROOT}\nfollow_imports = silent\n"
        "[mypy-keras.*]\nignore_missing_imports = True\n",
        "utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "script.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The lines that mypy prints, by the line of the script; one run, as most of its time goes to the imports."""
    lines = [*WRONG, *(f"reveal_type({text})" for text in OF_TYPE)]
    found = mypy(tmp_path_factory.mktemp("typed"), HEAD + "\n".join(lines) + "\n")
    first = HEAD.count("\n") + 1
    told = re.findall(r"^script\.py:(\d+): (.+)$", found, re.MULTILINE)
    return {line: "\n".join(text for number, text in told if int(number) == first + i) for i, line in enumerate(lines)}


@pytest.mark.slow
def test_a_users_script_passes_strict(tmp_path):
    assert mypy(tmp_path, SCRIPT) == ""


@pytest.mark.parametrize("line", WRONG)
def test_a_misspelt_name_is_an_error(checked, line):
    assert re.search(rf"error: .*\[({WRONG[line]})\]$", checked[line], re.MULTILINE), checked[line]


@pytest.mark.parametrize("text", OF_TYPE)
def test_a_public_object_has_a_type(checked, text):
    found = checked[f"reveal_type({text})"]
    assert re.search(OF_TYPE[text], found), found


def arguments_of(*functions):
    """Names of the arguments that can be given by name, but for `self`."""
    found = [parameter for function in functions for parameter in inspect.signature(function).parameters.values()]
    return {parameter.name for parameter in found if parameter.kind is not parameter.VAR_KEYWORD} - {"self"}


def test_options_are_those_that_the_functions_take():
    """They are listed for type checkers once more, and must not be others."""
    shared = arguments_of(keras_rar.AbstractAttributionRegularizer.__init__)
    assert set(SharedOptions.__annotations__) == shared
    methods = arguments_of(*(method.__init__ for method in keras_rar.METHODS.values()))
    assert set(table.Options.__annotations__) == shared | methods
    assert set(choices.Options.__annotations__) == arguments_of(AttributionAttack.__init__) - {"epsilon"}
    of_map = arguments_of(keras_rar.saliency_map) - {"model", "x", "y", "method", "return_completeness"}
    assert set(saliency_maps._Options.__annotations__) == of_map


def public_functions():
    """Public functions, and the public methods and constructors that the public classes define themselves."""
    for top in (keras_rar, keras_rar.attacks, keras_rar.metrics, keras_rar.training):
        for name in top.__all__:
            value = getattr(top, name)
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    function = getattr(function, "__func__", function)
                    if inspect.isfunction(function) and (not method.startswith("_") or method == "__init__"):
                        yield f"{name}.{method}", function
            elif inspect.isfunction(value):
                yield name, value


def test_every_public_function_says_its_types():
    """An unannotated one cannot be called from a script that is checked strictly."""
    missing = set()
    functions = list(public_functions())
    assert len(functions) > 100
    for name, function in functions:
        given = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
        if not name.endswith("__init__"):  # whose return says nothing
            given.append("return")
        if not set(given) <= set(function.__annotations__):
            missing.add(name)
    assert not missing
