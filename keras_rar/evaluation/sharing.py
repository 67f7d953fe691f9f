"""An evaluation that the replicas of a strategy share: each attacks some of the batches, and all get every result."""

import concurrent.futures
import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar import attacks
from keras_rar.attacks.prediction_ensemble import PredictionEnsembleResult
from keras_rar.attacks.results import AttackResult, EnsembleResult, Rows
from keras_rar.core import replicas

_RESULTS = {kind.__name__: kind for kind in (AttackResult, EnsembleResult, attacks.PGDResult, PredictionEnsembleResult)}


class Sharing:
    """Who attacks what.

    Without a strategy, or with one replica, everything is attacked here. The results are the same for any number:
    batches are those of one replica, and what an example draws does not depend on who attacks it.

    Args:
        model: The network. The strategy is the one that it was made under.
    """

    def __init__(self, model: keras.Model):
        self._strategy = getattr(model, "distribute_strategy", None) or tf.distribute.get_strategy()
        self._replicas = self._strategy.num_replicas_in_sync
        self._own = replicas.own(self._strategy)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return 0 in self._own

    def check_alike(self, about: str) -> None:
        """Refuse processes that would evaluate different things; all call it together.

        Args:
            about: What this process evaluates, and how far it has come.

        Raises:
            ValueError: If another process evaluates something else.
        """
        if len(set(self._of_all([about.encode()] * len(self._own)))) > 1:
            raise ValueError(
                "All workers must evaluate the same model, examples and settings, and read the same `path`. "
                "Received: others on another worker"
            )

    def iterate(self, attack: Any, model: keras.Model, x: Any, y: Any, **options: Any) -> Iterator[Any]:
        """The results of an attack batch by batch, as its own `iterate` gives them.

        Args:
            attack: The attack.
            model: As for its `iterate`.
            x: As for its `iterate`.
            y: As for its `iterate`.
            **options: As for its `iterate`. With several replicas `progress` is called after each batch only.
        """
        if self._replicas == 1:
            yield from attack.iterate(model, x, y, **options)
            return
        options["progress"] = None
        shares = [attack.share(number, self._replicas) for number in self._own]
        parts = [share.iterate(model, x, y, **options) for share in shares]
        devices = self._strategy.extended.worker_devices
        with concurrent.futures.ThreadPoolExecutor(len(parts)) as pool:
            while True:
                mine = list(pool.map(_next_on, devices, parts))
                found = mine if len(mine) == self._replicas else [_read(m) for m in self._of_all(map(_written, mine))]
                yield from (part for part in found if part is not None)
                if found[-1] is None:
                    return

    def _of_all(self, messages: Any) -> list[bytes]:
        return replicas.exchanged(self._strategy, list(messages))


def _next_on(device: str, parts: Iterator[Rows]) -> Rows | None:
    with tf.device(device):  # where the variables of this replica are read
        return next(parts, None)


def _written(result: Rows | None) -> bytes:
    """A result as a file of arrays; nothing for none."""
    if result is None:
        return b""
    file, flat = io.BytesIO(), dict[str, Any](kind=type(result).__name__)
    for field in dataclasses.fields(result):
        flat |= _flat(field.name, getattr(result, field.name))
    np.savez(file, **flat)
    return file.getvalue()


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: part for inner, of_it in value.items() for key, part in _flat(f"{name}/{inner}", of_it).items()}


def _read(message: bytes) -> Rows | None:
    if not message:
        return None
    with np.load(io.BytesIO(message)) as file:
        flat = dict(file.items())
    kind, columns = _RESULTS[str(flat.pop("kind"))], dict[str, Any]()
    for name, value in flat.items():
        *path, last = name.split("/")
        inner = columns
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = tuple(value.tolist()) if value.dtype.kind == "U" else value if value.ndim else value.item()
    return kind(**columns)
