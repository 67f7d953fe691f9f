"""Types of settings name what there is: a new norm, rule or attack must be in its type too."""

import dataclasses
import inspect
from typing import get_args

import pytest

import keras_rar
from keras_rar.attacks import AttributionAttack, choices
from keras_rar.core import channels, map_objectives, neighborhoods, quadrature, saliency_methods
from keras_rar.evaluation import protocols, settings
from keras_rar.evaluation.protocols import Protocol
from keras_rar.networks import classifier


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (choices.Norm, neighborhoods.NORMS),
        (choices.Target, classifier.TARGETS),
        (choices.RuleName, quadrature.RULES),
        (choices.SaliencyName, saliency_methods.METHODS),
        (choices.SimilarityName, map_objectives.SIMILARITIES),
        (choices.DataFormat, ["auto", *channels.DATA_FORMATS]),
        (choices.ObjectiveName, classifier.OBJECTIVES),
        (settings.AttackName, protocols.ATTACKS),
        (settings.DatasetName, protocols.PAPER),
    ],
)
def test_a_type_names_what_there_is(kind, table):
    assert set(get_args(kind)) == set(table)


def test_the_types_of_options_are_those_of_the_attack():
    arguments = inspect.signature(AttributionAttack.__init__).parameters
    assert set(choices.Options.__annotations__) == set(arguments) - {"self", "epsilon"}


def test_the_types_of_settings_are_those_of_a_protocol_and_of_the_arguments():
    fields = [field.name for field in dataclasses.fields(Protocol)]
    assert list(settings.Settings.__annotations__) == fields[1:]
    assert set(fields[1:]) < set(inspect.signature(keras_rar.evaluate_robustness).parameters)


def test_a_setting_that_may_be_none_is_left_out_by_auto():
    parameters = inspect.signature(keras_rar.evaluate_robustness).parameters
    for name in settings.Settings.__annotations__:
        assert parameters[name].default == ("auto" if name in settings.OPTIONAL else None)
    optional = {f.name for f in dataclasses.fields(Protocol) if f.default is None} | {"bounds", "softplus_beta"}
    assert set(settings.OPTIONAL) == optional - {"other_maps"}  # whose None leaves it to the kind of map
