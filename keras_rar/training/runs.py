"""Training that is kept in a folder after every epoch, and gone on from there."""

import json
import re
import time
from pathlib import Path
from typing import Any

import keras

from keras_rar.core import files
from keras_rar.training.batches import Batches


def claim(folder: Path, name: str, settings: dict[str, Any]) -> None:
    """Make a folder that of a run with these settings.

    Raises:
        ValueError: If it is that of a run with others.
    """
    path, settings = folder / f"{name}.json", json.loads(as_json(settings))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as part:
            part.write_text(as_json(settings))
    theirs = json.loads(path.read_text())
    others = [key for key in sorted({*settings, *theirs}) if settings.get(key) != theirs.get(key)]
    if others:
        ours = ", ".join(f"{key}={settings.get(key)}" for key in others)
        raise ValueError(
            f"{folder} must be new, or of a run with the same settings. Received: other than {path}: {ours}"
        )


def as_json(content: dict[str, Any]) -> str:
    """Content as a JSON file holds it; what JSON has not, in words."""
    return json.dumps(content, indent=2, default=str) + "\n"


class Run:
    """What is kept of a training.

    Args:
        folder: Where; `None` for nowhere.
        settings: What it is trained with.

    Raises:
        ValueError: If the folder is that of a run with other settings.
    """

    def __init__(self, folder: str | Path | None, settings: dict[str, Any]):
        self.folder = None if folder is None else Path(folder)
        self.seconds = 0.0
        if self.folder is not None:
            claim(self.folder, "training", settings)
            path = self.folder / "seconds.json"
            self.seconds = json.loads(path.read_text()) if path.exists() else 0.0

    def fit(
        self, model: keras.Model, data: Batches, name: str, *, start: int, steps: int, epochs: int, verbose: int
    ) -> None:
        """Fit epochs of so many batches, the first of them number `start` of the data.

        What finished epochs left is loaded: weights, state of the optimizer, seeds; and the data go on behind theirs.
        """
        done = 0
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)  # or its state would not be loaded
        if self.folder is not None:
            if (finished := self._file(name, "finished")).exists():
                model.load_weights(finished)  # the optimizer's too
                return
            done = max(self._epochs(name), default=0)
            if done:
                model.load_weights(self._file(name, done))
        stream = data.stream(start + done * steps)
        options = {"initial_epoch": done, "epochs": epochs, "steps_per_epoch": steps, "verbose": verbose}
        model.fit(stream, shuffle=False, callbacks=[_EveryEpoch(self, name)], **options)
        self.save(model, name, "finished")  # `fit` may have put in averages

    def save(self, model: keras.Model, name: str, what: Any) -> None:
        """Keep the weights, in place of earlier ones; a file that is there is whole."""
        if self.folder is None:
            return
        earlier = [self._file(name, epoch) for epoch in self._epochs(name)]
        with files.whole(self._file(name, what)) as part:
            model.save_weights(part, overwrite=True)
        for file in earlier:
            if file != self._file(name, what):
                file.unlink()
        with files.whole(self.folder / "seconds.json") as part:
            part.write_text(json.dumps(self.seconds))

    def _file(self, name: str, what: Any) -> Path:
        return Path(self.folder or "", f"{name}-{what}.weights.h5")

    def _epochs(self, name: str) -> list[int]:
        kept = (re.fullmatch(rf"{name}-(\d+)\.weights\.h5", file.name) for file in Path(self.folder or "").iterdir())
        return [int(match[1]) for match in kept if match]


class _EveryEpoch(keras.callbacks.Callback):
    """Takes the time of each epoch, and keeps what it left."""

    def __init__(self, run: Run, name: str):
        super().__init__()
        self.run, self.name = run, name
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.run.seconds += time.perf_counter() - self._start
        self.run.save(self.model, self.name, epoch + 1)
