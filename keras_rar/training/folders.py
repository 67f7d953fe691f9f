"""The folder of a training: which run it belongs to, and the states that the run left in it."""

import json
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_rar.core import files
from keras_rar.training import identity
from keras_rar.training.state import random_states, values_of

_TRAINED_HERE: weakref.WeakKeyDictionary[Any, set[Path]] = weakref.WeakKeyDictionary()
"""Networks trained in this process, and their folders: their weights are no longer those that the run began with."""

_STALE = 3600
"""Seconds after which a part of a file is taken for one that a killed process left."""


def claim(folder: Path, name: str, settings: dict[str, Any]) -> None:
    """Make a folder that of a run with these settings.

    Raises:
        ValueError: If it is that of a run with others, or its file of settings is damaged.
    """
    path, settings = folder / f"{name}.json", json.loads(json.dumps(settings, default=identity.in_words))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as part:
            part.write_text(as_json(settings))
        return
    if others := identity.differences(settings_in(path), settings):
        raise ValueError(
            f"`folder` must be new, or of a run with the same settings. Received: {folder}, of a run with other "
            + ", ".join(others)
        )


def settings_in(path: Path) -> dict[str, Any]:
    """The settings that a file of `claim` holds.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
    except (OSError, ValueError) as error:
        raise damaged(path, error, "put back a copy of it, or take a new folder") from None
    return settings


def as_json(content: dict[str, Any]) -> str:
    """Content as a JSON file holds it; objects that JSON cannot hold are written as text."""
    return json.dumps(content, indent=2, default=str) + "\n"


def damaged(path: Path, error: Exception, remedy: str) -> ValueError:
    """The error for a file that cannot be read, in one line."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return ValueError(f"`folder` must hold whole files. Received: {path}, which is damaged ({reason}): {remedy}.")


class Folder:
    """The states of a training in stages: one per stage, after its last epoch or when it is finished.

    Args:
        path: The folder.
        stages: Names of the stages, one after the other.
        settings: What the network is trained with.
        network: The network that is trained.

    Raises:
        ValueError: If the folder is that of another run, or a file in it is damaged.
    """

    def __init__(self, path: str | Path, stages: Sequence[str], settings: dict[str, Any], network: keras.Model):
        self.path, self.stages = Path(path).resolve(), list(stages)
        claim(self.path, "training", {**settings, "network": identity.of_network(network)})
        for left in self.path.glob("part-*"):
            if left.stat().st_mtime < time.time() - _STALE:
                left.unlink(missing_ok=True)
        self.stage, self.epoch = self._last()
        self._begin(network)

    def read(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What the last state holds beside the weights: a description, and arrays."""
        path = self._file(self.stage, self.epoch, "state.npz")
        arrays = self._arrays(path, self._remedy(path))
        try:
            return json.loads(str(arrays.pop("about"))), arrays
        except (KeyError, ValueError) as error:
            raise damaged(path, error, self._remedy(path)) from None

    def load(self, model: keras.Model) -> None:
        """Load the weights of the last state, with the optimizer and the seeds."""
        path = self._file(self.stage, self.epoch, "weights.h5")
        try:
            model.load_weights(path)
        except Exception as error:  # of h5py or of Keras, which say what they were doing
            raise damaged(path, error, self._remedy(path)) from None

    def write(self, model: keras.Model, stage: int, epoch: int | str, about: Any, arrays: Mapping[str, Any]) -> None:
        """Keep a state in place of the earlier one of its stage; a file that is there is whole."""
        with files.whole(self._file(stage, epoch, "state.npz")) as part, part.open("wb") as opened:
            np.savez(opened, about=np.array(json.dumps(about)), **arrays)
        with files.whole(self._file(stage, epoch, "weights.h5")) as part:  # last: they make the state count
            model.save_weights(part, overwrite=True)
        for kind in ("weights.h5", "state.npz"):
            for earlier in self.path.glob(f"{self.stages[stage]}-*.{kind}"):
                if earlier != self._file(stage, epoch, kind):
                    earlier.unlink(missing_ok=True)

    def _last(self) -> tuple[int, int | str]:
        """The last stage of which a state is kept, and after which epoch; epoch 0 of stage 0 if none is."""
        for number in reversed(range(len(self.stages))):
            prefix, kind = f"{self.stages[number]}-", ".weights.h5"
            names = [file.name for file in self.path.glob(f"{prefix}*{kind}")]
            kept = [name.removeprefix(prefix).removesuffix(kind) for name in names]
            if "finished" in kept:
                return number, "finished"
            if epochs := [int(epoch) for epoch in kept if epoch.isdigit()]:
                return number, max(epochs)
        return 0, 0

    def _begin(self, network: keras.Model) -> None:
        """Keep the weights and seeds that a run begins with, or compare the network with those that are kept."""
        path, states = self.path / "initial.npz", random_states(network)
        if not path.exists():
            values = {f"weight{number}": value for number, value in enumerate(network.get_weights())}
            values |= {f"seed{number}": value for number, value in enumerate(values_of(states))}
            with files.whole(path) as part, part.open("wb") as file:
                np.savez(file, **values)
        else:
            arrays = self._arrays(path, "put back a copy of it, or take a new folder")
            weights = [value for name, value in arrays.items() if name.startswith("weight")]
            if self.path not in _TRAINED_HERE.get(network, ()) and not _alike(weights, network.get_weights()):
                raise ValueError(
                    "`network` must be the one that the run began with. Received: a network of the same architecture "
                    f"with other initial weights. Build it with the same seed, or give it those of {path}"
                )
            if self.epoch == 0:
                network.set_weights(weights)
                seeds = [value for name, value in arrays.items() if name.startswith("seed")]
                for state, value in zip(states, seeds, strict=len(seeds) == len(states)):
                    state.assign(value)
        _TRAINED_HERE.setdefault(network, set()).add(self.path)

    def _arrays(self, path: Path, remedy: str) -> dict[str, np.ndarray]:
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file.items())
        except Exception as error:  # of zipfile or NumPy
            raise damaged(path, error, remedy) from None

    def _remedy(self, path: Path) -> str:
        other = "state.npz" if path.name.endswith(".weights.h5") else "weights.h5"
        pair = self._file(self.stage, self.epoch, other).name
        return f"put back a copy of it, or delete it and {pair}, and training goes on from the state before"

    def _file(self, stage: int, epoch: int | str, kind: str) -> Path:
        return self.path / f"{self.stages[stage]}-{epoch}.{kind}"


def _alike(theirs: list[np.ndarray], ours: list[np.ndarray]) -> bool:
    """Whether weights are the same but for the rounding of another processor."""
    return len(theirs) == len(ours) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
        for a, b in zip(theirs, ours, strict=True)
    )
