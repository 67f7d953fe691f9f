"""`evaluate_robustness`: how far a classifier's predictions and explanations can be moved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy.typing as npt

from keras_rar.attacks.choices import (
    AnySaliency,
    Auto,
    Bounds,
    Chunk,
    DataFormat,
    JitCompile,
    Norm,
    ObjectiveName,
    Radius,
    RuleName,
    SimilarityName,
    Target,
)
from keras_rar.core import checks, keywords
from keras_rar.evaluation import ball, protocols
from keras_rar.evaluation.controls import Controls
from keras_rar.evaluation.preparing import prepared
from keras_rar.evaluation.protocols import Protocol
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.settings import AttackName, DatasetName, PredictionAttackName, ProtocolName, given


@keywords.checked
def evaluate_robustness(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    epsilon: Radius | None = None,
    norm: Norm | None = None,
    bounds: Bounds | Auto = "auto",
    baseline: npt.ArrayLike | None = None,
    k: int | Auto | None = "auto",
    k_report: int | Auto | None = "auto",
    attack: AttackName | None = None,
    steps: int | None = None,
    step_size: float | Auto | None = "auto",
    restarts: int | None = None,
    keep: SimilarityName | None = None,
    saliency: AnySaliency | None = None,
    target: Target | None = None,
    data_format: DataFormat | None = None,
    layer: str | Auto | None = "auto",
    rule: RuleName | None = None,
    m: int | None = None,
    softplus_beta: float | Auto | None = "auto",
    prediction_attack: PredictionAttackName | None = None,
    pgd_steps: int | None = None,
    pgd_step_size: float | Auto | None = "auto",
    pgd_objectives: ObjectiveName | tuple[ObjectiveName, ...] | None = None,
    pgd_restarts: int | None = None,
    attacked: int | Auto | None = "auto",
    seed: int | None = None,
    noise: int | None = None,
    other_maps: Sequence[AnySaliency] | None = None,
    faithful: int | None = None,
    certified: int | None = None,
    protocol: ProtocolName | Protocol = "quick",
    dataset: DatasetName | None = None,
    path: str | Path | None = None,
    gradient_model: keras.Model | None = None,
    batch_size: int | None = None,
    chunk: Chunk = "auto",
    jit_compile: JitCompile = "auto",
    progress: bool = True,
) -> RobustnessReport:
    """How far the predictions and the explanations of a classifier can be moved.

    Two attacks within N(x, ε): PGD on the predictions of all examples, which gives the adversarial accuracy, and an
    attribution attack on the saliency maps of the correctly classified ones, which gives the top-k intersection,
    Kendall's tau and Spearman's rho of each map with itself after the attack (Chen et al. 2019, sec. 5).

    The scores are what these attacks found, so upper bounds of what there is to find. Controls run on a part of the
    attacked examples: noise of the same budget, the same attack on other kinds of map, and how faithful the maps are.
    The report warns where they say that a score means little.

    The ball of a `RARModel` is that of its training: `epsilon`, `norm`, `bounds`, `baseline`, and `k` if its method
    has one. For any other model `epsilon` must be given. With `protocol="paper"`, or a `Protocol` of your own, the
    ball is the protocol's. What is given here counts before both.

    The attribution attack costs `6 m steps` passes over the network for each example and start: with
    `protocol="paper"` many seconds per image on a processor. `attacked` bounds the number of examples, and with
    `path` an interrupted evaluation goes on where it was; one with a larger `attacked` goes on with more examples.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        x: Array of examples of shape `(n, ...)`, in the units of `bounds`; or a dictionary or list that holds it.
        y: Labels, class indices or one-hot.
        epsilon: Float > 0, radius of both attacks, in the units of the input; or an array of one float >= 0 per
            feature, 0 where it may not change.
        norm: `"linf"`, `"l2"`, `"l1"` or `"l0"`.
        bounds: Pair `(lower, upper)`, the valid range of inputs, or `None` for no bounds.
        baseline: Float or array, where the segments of IG begin.
        k: Number of entries that `"topk"` and `"ensemble"` drain; `None` for an eighth of the map.
        k_report: k of the reported top-k intersection, below the entries of a map; `None` for `k`.
        attack: Attribution attack: `"topk"`, `"mass_center"`, `"random"` or `"ensemble"`, the worst of several.
        steps: Iterations of the attribution attack.
        step_size: Length of its step; `None` for its default.
        restarts: Random starts of it, after the one at the input.
        keep: The similarity that picks the iterate.
        saliency: The attribution method: a name, a `Saliency` object or a function.
        target: The score explained.
        data_format: Where inputs have their channels: `"channels_last"`, `"channels_first"`, `"none"`, or `"auto"`, as
            `saliency_map` finds it.
        layer: Name of a layer whose output is attacked and explained in place of the input, as `"embedding"` for words:
            `epsilon`, `bounds` and `baseline` are in the units of its output. `None` for the input; `"auto"` for the
            layer of the training of a `RARModel`.
        rule: Quadrature rule of IG.
        m: Its number of nodes.
        softplus_beta: Sharpness of the softplus twin; `None` for gradients through the model as it is. `"auto"`
            leaves it to the protocol: `1.` with `"paper"`, and found for the model otherwise.
        prediction_attack: Attack on predictions: `"pgd"`, or `"ensemble"`, which has no settings but `pgd_restarts`.
        pgd_steps: Iterations of the attack on predictions.
        pgd_step_size: Length of its step; `None` for a tenth of `epsilon`.
        pgd_objectives: Its objectives, `"crossentropy"` and `"margin"`; the worst of them counts.
        pgd_restarts: Random starts of it, after the one at the input.
        attacked: Number of examples whose maps are attacked, the first correctly classified; `None` for all.
        seed: Seed of random starts and steps, and of the bootstrap.
        noise: Number of attacked examples that noise of the same budget is measured on, the control; 0 for none.
        other_maps: Attribution methods attacked besides, on as many examples; `()` for none.
        faithful: Number of attacked examples whose maps are tested for faithfulness; 0 for none.
        certified: Number of attacked examples whose maps are certified; 0 for none.
        protocol: Where settings come from that are left at `None` or, where `None` is a value, at `"auto"`:
            `"quick"`, a first look; `"strong"`, the worst of several attacks; `"paper"`, the exact settings for a
            `dataset`; or a `Protocol`. The name of the protocol in the report says what was changed.
        dataset: `"mnist"`, `"fashion_mnist"`, `"gtsrb"` or `"oxford_flower17"`, for `protocol="paper"`.
        path: File (`.npz`) that results are kept in while they come, and gone on from. Defaults to none.
        gradient_model: A smooth twin of your own for a model whose activations cannot be found.
        batch_size: Positive integer, examples attacked at once. Defaults to `None`, what is fastest and fits in memory.
        chunk: Number of nodes of IG evaluated at once: an integer, `None` for all, or `"auto"`.
        jit_compile: Whether to compile with XLA: `True`, `False`, or `"auto"` for "on a GPU". Defaults to `"auto"`.
        progress: Whether to show how far it has come and an estimate of the time left. Defaults to `True`.

    Returns:
        A `RobustnessReport`.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or an argument is not of its type, or does not exist:
            the message lists those that do.
        ValueError: If inputs, labels or settings are wrong, `epsilon` is missing, or `path` holds another evaluation.
            Nothing is attacked then.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(9, 4)), np.arange(9) % 3
    >>> report = evaluate_robustness(model, x, y, epsilon=0.05, steps=2, m=4, progress=False)
    >>> report.protocol["name"]
    'quick, changed: epsilon=0.05, steps=2, m=4'
    """
    changes = given(locals())
    checks.boolean("progress", progress)
    base = protocols.get(protocol, dataset)
    settings = base.changed(**(ball.completed(model, changes) if protocols.of_any_data(protocol) else changes))
    evaluation, pgd, attribution = prepared(model, x, y, settings, path, gradient_model, batch_size, chunk, jit_compile)
    controls = Controls(evaluation, pgd, gradient_model, batch_size=batch_size, chunk=chunk, jit_compile=jit_compile)
    evaluation.predictions(pgd, progress)
    evaluation.attributions(attribution, gradient_model, progress)
    controls.run(progress)
    return evaluation.report
