"""What is public: exported, documented, importable, and shown by examples that run."""

import doctest
import inspect
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_rar
import keras_rar_cli

MODULES = [
    module.name
    for package in (keras_rar, keras_rar_cli)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.ispkg
]
SUBMODULES = {name: getattr(keras_rar, name) for name in ("attacks", "metrics", "training")}
PUBLIC = {name: getattr(keras_rar, name) for name in keras_rar.__all__}
PUBLIC |= {f"{top}.{name}": getattr(module, name) for top, module in SUBMODULES.items() for name in module.__all__}
CALLABLES = {name: value for name, value in PUBLIC.items() if callable(value)}
# A new public name is a decision that is made here.
CONTRACT = {
    "ARTRegularizer", "AbstractAttributionRegularizer", "AttributionPriorRegularizer", "AttributionRobustness",
    "AttributionalContrastRegularizer", "CURERegularizer", "Certificate", "Comparison", "DeepLIFT", "ExpectedGradients",
    "GradCAM", "HessianRegularizer", "IGNormRegularizer", "IGRRegularizer", "IGSumNormRegularizer", "IGTopKRegularizer",
    "InputGradientRegularizer", "KendallRegularizer", "L0Ball", "L1Ball", "L2Ball", "LGARegularizer", "LRP", "LinfBall",
    "LossChangeRegularizer", "MARTRegularizer", "METHODS", "MadryRegularizer", "NaturalRegularizer", "Occlusion",
    "OneInput", "PearsonRegularizer", "Protocol", "QuadratureRule", "R2ETRegularizer", "RARModel", "RobustnessReport",
    "SSRRegularizer", "Saliency", "SmoothingBlock", "SumOfRegularizers", "TRADESRegularizer", "Terms",
    "WassersteinPrice", "attacks", "baseline_report", "certify", "compare", "completeness_gap", "evaluate_robustness",
    "export_saved_model", "firm_threshold", "input_gradient", "integrated_gradients", "metrics", "plotting",
    "quadrature", "saliency_map", "softplus_twin", "training", "unwrap", "wrap",
}  # fmt: skip
CONTRACT_OF = {
    "attacks": {
        "AttackResult", "AttributionAttack", "EnsembleAttack", "EnsembleResult", "MassCenterAttack", "PGDAttack",
        "PGDResult", "PredictionEnsembleAttack", "PredictionEnsembleResult", "RandomAttack", "TargetAttack",
        "TopKAttack", "TwinAgreement",
    },
    "metrics": {
        "CosineSimilarity", "KendallTauB", "LocalTopKIntersection", "MassCenterDistance", "PearsonCorrelation",
        "SpearmanRho", "TopKIntersection", "cosine_similarity", "deletion", "faithfulness", "infidelity", "insertion",
        "kendall_tau_b", "local_topk_intersection", "mass_center", "mass_center_distance", "pearson", "spearman_rho",
        "topk_intersection",
    },
    "training": {"Batches", "Phase", "Plan", "TrainingResult", "shuffled", "train"},
}  # fmt: skip


def imported(module):
    return __import__(module, fromlist=["_"])


def test_public_names_are_the_contract():
    assert set(keras_rar.__all__) == CONTRACT
    exported = {name for name, value in vars(keras_rar).items() if not name.startswith("_") and callable(value)}
    assert exported <= CONTRACT


@pytest.mark.parametrize("name", sorted(SUBMODULES))
def test_public_names_of_a_submodule_are_the_contract(name):
    assert set(SUBMODULES[name].__all__) == CONTRACT_OF[name]


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_public_docstring_is_complete(name):
    value = CALLABLES[name]
    text = inspect.getdoc(value)
    inherited = inspect.isclass(value) and "__init__" not in vars(value)
    parameters = {} if inherited else inspect.signature(value).parameters
    named = [p for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
    assert "Args:" in text or not named
    for parameter in named:
        assert f"\n    {parameter.name}:" in text, f"{parameter.name} is not documented"
    if inspect.isfunction(value):
        assert "Returns:" in text or value.__annotations__.get("return") in (None, "None")
    assert ">>>" in text or inspect.isabstract(value) or name == "Terms"


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_run(module, tmp_path, without_controls):
    module = imported(module)
    names = {"keras": keras, "keras_rar": keras_rar, "np": np, "tf": tf, "tmp_path": tmp_path}
    core = {**vars(imported("keras_rar.core.quadrature")), **vars(imported("keras_rar.core.neighborhoods"))}
    keras.utils.set_random_seed(0)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=options)
    for test in doctest.DocTestFinder().find(module, extraglobs={**core, **vars(module), **names}):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_docstring_examples_are_found():
    tests = [test for name in MODULES for test in doctest.DocTestFinder().find(imported(name))]
    assert sum(bool(test.examples) for test in tests) >= 20


def test_modules_of_rooms_are_imported_by_their_public_names():
    import keras_rar.metrics
    import keras_rar.quadrature
    from keras_rar.metrics import kendall_tau_b
    from keras_rar.plotting import plot_maps

    assert kendall_tau_b is keras_rar.metrics.kendall_tau_b is imported("keras_rar.evaluation.metrics").kendall_tau_b
    assert plot_maps is keras_rar.plotting.plot_maps
    assert keras_rar.quadrature is imported("keras_rar.core.quadrature")


def test_every_method_is_in_the_table():
    classes = [value for value in PUBLIC.values() if inspect.isclass(value)]
    methods = {c for c in classes if issubclass(c, keras_rar.AbstractAttributionRegularizer)}
    assert set(keras_rar.METHODS.values()) == methods - {
        keras_rar.AbstractAttributionRegularizer,
        keras_rar.SumOfRegularizers,
    }
