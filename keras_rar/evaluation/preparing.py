"""An evaluation with everything checked, and nothing attacked."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_rar import attacks
from keras_rar.attacks.choices import Chunk, JitCompile
from keras_rar.attacks.explained import counted_entries
from keras_rar.core import channels, checks, discrete
from keras_rar.core.saliency_methods import METHODS, WITH_BASELINE
from keras_rar.evaluation import short
from keras_rar.evaluation.protocols import Protocol
from keras_rar.evaluation.running import Evaluation
from keras_rar.networks import plausible
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.tail import at_layer


def prepared(
    model: keras.Model,
    x: Any,
    y: Any,
    settings: Protocol,
    path: str | Path | None = None,
    gradient_model: keras.Model | None = None,
    batch_size: int | None = None,
    chunk: Chunk = "auto",
    jit_compile: JitCompile = "auto",
) -> tuple[Evaluation, Any, attacks.AttributionAttack]:
    """The evaluation and its two attacks. Everything that can be refused is refused here, before the first attack."""
    model, x = at_layer(model, settings.layer, x)
    classifier = Classifier(model)
    if settings.certified and classifier.columns.holds:
        checks.fail(
            "certified", "0 at a layer that masks or inputs pass by: noise must not change these", settings.certified
        )
    if gradient_model is not None:
        Classifier(gradient_model)  # refuses what is no classifier
    checks.broadcasts("baseline", settings.baseline, classifier.free_shape)
    names = getattr(x, "columns", None)  # of a data frame
    x = classifier.check_inputs(x, settings.bounds)
    y = classifier.check_labels(y, len(x))
    data_format = data_format_of(classifier.model, x.shape[1:], settings.data_format)
    shape = channels.map_shape(x.shape[1:], data_format)
    plausible.check_varies(classifier, x[:32])
    pgd = settings.pgd_attack(batch_size=batch_size, jit_compile=jit_compile)
    begins = isinstance(settings.saliency, str) and METHODS.get(settings.saliency) in WITH_BASELINE
    counted = counted_entries(settings.baseline if begins else 0.0, classifier.columns.free(x).shape[1:], shape)
    entries = int(np.prod(shape)) if counted is None else len(counted)
    attack = settings.attribution_attack(entries, chunk=chunk, batch_size=batch_size, jit_compile=jit_compile)
    settings = dataclasses.replace(
        settings,
        k=getattr(attack, "k", None),
        k_report=attack.k_report,
        step_size=attack.step_size,
        pgd_step_size=getattr(pgd, "step_size", None),
        data_format=data_format,
    )
    attack.check(classifier.model, x, y, gradient_model=gradient_model)
    evaluation = Evaluation(classifier, settings, x, y, path, batch_size, gradient_model)
    changed = None if settings.layer is not None else attack.neighborhood.free(x.shape[1:])
    if changed is not None and (sentence := discrete.said(x, changed, names)):
        evaluation.report.findings["discrete"] = sentence
    if sentence := short.said(classifier, x, settings.k_report):
        evaluation.report.findings["short"] = sentence
    return evaluation, pgd, attack
