"""Builders for tensorflow-datasets, of the two data sets that it does not have.

The package tensorflow-datasets is imported when a builder is made: nothing else needs it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_rar.paper import archives

_CITATION = {
    "gtsrb": "Stallkamp et al., Man vs. computer: Benchmarking machine learning algorithms for traffic sign "
    "recognition, Neural Networks 2012.",
    "oxford_flower17": "Nilsback, Zisserman, A visual vocabulary for flower classification, CVPR 2006.",
}
_CLASS_NAMES = {"gtsrb": "Gtsrb", "oxford_flower17": "OxfordFlower17"}  # tensorflow-datasets derives names from these


def builder(name: str) -> Any:
    """A builder that downloads the official archives, checks them, and keeps what `archives.images` reads from them.

    Args:
        name: A name in `archives.ARCHIVES`.

    Returns:
        A `tfds.core.GeneratorBasedBuilder`.

    Raises:
        ImportError: If tensorflow-datasets is not installed.
    """
    import tensorflow_datasets as tfds

    def info(self: Any) -> tfds.core.DatasetInfo:
        size = archives.SIZES[name]
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=archives.CLASSES[name]),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the order is that of `archives.images`
            citation=_CITATION[name],
        )

    def split_generators(self: Any, dl_manager: Any) -> dict[str, Iterator]:
        published = archives.ARCHIVES[name]
        paths = dl_manager.download({key: archive.url for key, archive in published.items()})
        paths = {key: Path(path) for key, path in paths.items()}
        for key, archive in published.items():
            archive.check(paths[key])
        return {split: self._generate_examples(paths, split) for split in ("train", "test")}

    def generate_examples(self: Any, paths: dict[str, Path], split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (image, label) in enumerate(archives.images(name, paths, split)):
            yield number, {"image": image, "label": label}

    methods = {"_info": info, "_split_generators": split_generators, "_generate_examples": generate_examples}
    attributes = {"VERSION": tfds.core.Version("1.0.0"), "__module__": __name__, **methods}
    made = type(tfds.core.GeneratorBasedBuilder)(
        _CLASS_NAMES[name], (tfds.core.GeneratorBasedBuilder,), attributes, skip_registration=True
    )
    return made()
