"""The official archives of GTSRB and Oxford's 17 flowers, read where they lie.

Archives are not trusted: `keras_rar.paper.unpacking` reads them within limits, and nothing of them is written to disk
or executed.
"""

import csv
import dataclasses
import hashlib
import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from keras_rar.paper.unpacking import files

_PIXELS = 2**23  # of an image: in memory each takes three bytes


@dataclasses.dataclass(frozen=True)
class Archive:
    """An official archive.

    Args:
        host: The folder of the internet in which it is published.
        file: Its file name.
        md5: Its checksum.
        folder: What it leaves when it is unpacked: a folder, or its only file.
    """

    host: str
    file: str
    md5: str
    folder: str

    @property
    def url(self) -> str:
        return self.host + self.file

    def find(self, data_dir: Path) -> Path | None:
        """The archive in a folder, or what it left when it was unpacked there; `None` if neither is there."""
        return next((path for path in (data_dir / self.file, data_dir / self.folder) if path.exists()), None)

    def check(self, path: Path) -> None:
        """Refuse a download that is not the published file.

        Raises:
            ValueError: If its checksum differs.
        """
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        if digest.hexdigest() != self.md5:
            raise ValueError(f"{self.url} must have the MD5 sum {self.md5}. Received: {digest.hexdigest()}")


_SIGNS = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/17/"
_IMAGES = "GTSRB_Final_Training_Images.zip", "GTSRB_Final_Test_Images.zip"
ARCHIVES = {
    "gtsrb": {
        "train": Archive(_SIGNS, _IMAGES[0], "f33fd80ac59bff73c82d25ab499e03a3", "GTSRB/Final_Training"),
        "test": Archive(_SIGNS, _IMAGES[1], "c7e4e6327067d32654124b0fe9e82185", "GTSRB/Final_Test"),
        "labels": Archive(_SIGNS, "GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5", "GT-final_test.csv"),
    },
    "oxford_flower17": {"all": Archive(_FLOWERS, "17flowers.tgz", "b59a65d8d1a99cd66944d474e1289eab", "jpg")},
}
CLASSES = {"gtsrb": 43, "oxford_flower17": 17}
SIZES = {"gtsrb": 32, "oxford_flower17": 128}
_OF_A_FLOWER, _FOR_TRAINING = 80, 72


def images(name: str, paths: dict[str, Path], split: str) -> Iterator[tuple[np.ndarray, int]]:
    """Image `(size, size, 3)`, uint8, and class of each example of a split, in the order of their names.

    Flowers are named one class after the other; they come in a fixed random order, so that the first few are a sample.

    Args:
        name: A name in `ARCHIVES`.
        paths: Where the archives are, by the keys of `ARCHIVES[name]`.
        split: `"train"` or `"test"`.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If an archive cannot be read, breaks a limit, or does not hold exactly the images that it should.
    """
    found = {}
    for file, content, label in _gtsrb(paths, split) if name == "gtsrb" else _flowers(paths["all"], split):
        if not 0 <= label < CLASSES[name]:
            raise ValueError(f"A class of {name} must be below {CLASSES[name]}. Received: {label} for {file}")
        found[file] = _decoded(content, SIZES[name], file), label
    if not found:
        raise ValueError(f"{', '.join(map(str, paths.values()))} must hold images of {name}. Received: none")
    names, is_sorted = sorted(found), name == "oxford_flower17"
    for file in np.random.default_rng(0).permutation(names) if is_sorted else names:
        yield found[file]


def _gtsrb(paths: dict[str, Path], split: str) -> Iterator[tuple[str, bytes, int]]:
    """Each class has a folder of training images with a table of them; the test images have one table."""
    if split == "train":
        expected, seen = set[str](), set[str]()
        for file, content in files(paths["train"]):
            match = re.search(r"(?:^|/)Images/(\d{5})/([\w-]+\.(?:ppm|csv))$", file)
            if match and file.endswith(".csv"):
                expected |= {f"{match[1]}/{image}" for image in _table(content, file)}
            elif match:
                _add_once(paths["train"], f"{match[1]}/{match[2]}", seen)
                yield file, content, int(match[1])
        _complete(paths["train"], expected - seen)
        return
    tables = [content for file, content in files(paths["labels"]) if file.endswith("GT-final_test.csv")]
    if not tables:
        raise ValueError(f"{paths['labels']} must hold GT-final_test.csv. Received: no such file")
    labels, seen = _table(tables[0], str(paths["labels"])), set[str]()
    for file, content in files(paths["test"]):
        match = re.search(r"(?:^|/)Images/(\d{5}\.ppm)$", file)
        if match and match[1] not in labels:
            raise ValueError(f"GT-final_test.csv must name every test image. Received: none for {match[1]}")
        if match:
            _add_once(paths["test"], match[1], seen)
            yield file, content, labels[match[1]]
    _complete(paths["test"], labels.keys() - seen)


def _table(content: bytes, name: str) -> dict[str, int]:
    """Classes by the names of images."""
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8")), delimiter=";")
        return {row["Filename"]: int(row["ClassId"]) for row in rows}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{name} must be a table of Filename and ClassId, with semicolons. Received: {error}"
        ) from error


def _add_once(path: Path, name: str, seen: set[str]) -> None:
    if name in seen:
        raise ValueError(f"{path} must hold each image once. Received: {name} twice")
    seen.add(name)


def _complete(path: Path, missing: Collection[str]) -> None:
    if missing:
        raise ValueError(f"{path} must be complete. Received: {len(missing)} images missing, such as {min(missing)}")


def _flowers(path: Path, split: str) -> Iterator[tuple[str, bytes, int]]:
    """80 photographs per class, one class after the other; a fixed draw of 72 of each class is for training."""
    order, classes = np.random.default_rng(17), CLASSES["oxford_flower17"]
    chosen = {
        _OF_A_FLOWER * label + 1 + row
        for label in range(classes)
        for row in order.permutation(_OF_A_FLOWER)[:_FOR_TRAINING]
    }
    expected = {f"image_{number:04d}.jpg" for number in range(1, classes * _OF_A_FLOWER + 1)}
    seen = set[str]()
    for file, content in files(path):
        match = re.search(r"(?:^|/)jpg/(image_(\d{4})\.jpg)$", file)
        if match:
            _add_once(path, match[1], seen)
            if (int(match[2]) in chosen) == (split == "train"):
                yield file, content, (int(match[2]) - 1) // _OF_A_FLOWER
    _complete(path, expected - seen)


def _decoded(content: bytes, size: int, name: str) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{name} is read with Pillow, of the extra 'data': pip install pillow") from error
    try:
        with Image.open(io.BytesIO(content), formats=["PPM", "JPEG"]) as image:
            if image.width * image.height > _PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels")
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} must be a PPM or JPEG image of at most {_PIXELS} pixels. Received: {error}"
        ) from error
