"""Builders for tensorflow-datasets, of the two data sets that it does not have."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from keras_rar.paper import archives

_CITATION = {
    "gtsrb": "Stallkamp et al., Man vs. computer: Benchmarking machine learning algorithms for traffic sign "
    "recognition, Neural Networks 2012.",
    "oxford_flower17": "Nilsback, Zisserman, A visual vocabulary for flower classification, CVPR 2006.",
}


class _FromArchives(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Downloads the official archives, checks them, and keeps the images that `archives.images` reads from them."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        size = archives.SIZES[self.name]
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=archives.CLASSES[self.name]),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the order is that of `archives.images`
            citation=_CITATION[self.name],
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        published = archives.ARCHIVES[self.name]
        paths = dl_manager.download({key: archive.url for key, archive in published.items()})
        paths = {key: Path(path) for key, path in paths.items()}
        for key, archive in published.items():
            archive.check(paths[key])
        return {split: self._generate_examples(paths, split) for split in ("train", "test")}

    def _generate_examples(self, paths: dict[str, Path], split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (image, label) in enumerate(archives.images(self.name, paths, split)):
            yield number, {"image": image, "label": label}


class Gtsrb(_FromArchives):
    """German traffic signs, 43 classes, 32 × 32."""


class OxfordFlower17(_FromArchives):
    """Flowers of 17 classes, 128 × 128."""


BUILDERS = {"gtsrb": Gtsrb, "oxford_flower17": OxfordFlower17}
