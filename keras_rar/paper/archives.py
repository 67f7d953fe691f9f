"""The official archives of GTSRB and Oxford's 17 flowers, read where they lie.

Archives are not trusted: nothing of them is written to disk or executed, links in them are not followed, and a file
too large for an image is refused.
"""

import csv
import dataclasses
import gzip
import hashlib
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

import numpy as np

_LARGEST = 2**21  # bytes of a file; the largest image of either set has less than a megabyte
_MOST = 10**5  # files of an archive; the largest has 39,252


@dataclasses.dataclass(frozen=True)
class Archive:
    """An official archive.

    Args:
        host: Where it is published.
        file: Its name.
        md5: Its checksum.
        folder: What unpacking it leaves: the folder, or the one file.
    """

    host: str
    file: str
    md5: str
    folder: str

    @property
    def url(self) -> str:
        return self.host + self.file

    def find(self, data_dir: Path) -> Path | None:
        """The archive, or what unpacking it left, in a folder."""
        return next((path for path in (data_dir / self.file, data_dir / self.folder) if path.exists()), None)

    def check(self, path: Path) -> None:
        """Refuse a download that is not the published file.

        Raises:
            ValueError: If the checksum is another.
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


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each regular file in a zip or tar archive, in a folder, or of one file.

    Raises:
        ValueError: If the archive is damaged, or a file in it too large for an image, or there are too many.
    """
    try:
        for number, file in enumerate(_files(path)):
            if number >= _MOST:
                raise ValueError(f"{path} must hold fewer than {_MOST} files. Received: more")
            yield file
    except _DAMAGED as error:
        raise ValueError(f"{path} must be a whole archive. Received: one that cannot be read ({error})") from error


_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError)
"""What reading a damaged or an encrypted archive raises."""


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.is_symlink():
                with file.open("rb") as opened:
                    yield str(file.relative_to(path.parent).as_posix()), _whole(opened, file.name)
        return
    with path.open("rb") as opened:
        begins = opened.read(2)
    if begins == b"PK":
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    with archive.open(entry) as opened:
                        yield entry.filename, _whole(opened, entry.filename)
    elif begins == b"\x1f\x8b":
        with gzip.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isreg() else None
                    if content is not None:
                        yield member.name, _whole(content, member.name)
            while stream.read(2**20):  # to its checksum: damage may look like the end of a tar
                pass
    else:
        with path.open("rb") as opened:
            yield path.name, _whole(opened, path.name)


def _whole(opened: IO[bytes], name: str) -> bytes:
    content = opened.read(_LARGEST + 1)  # the size that the archive declares may be another
    if len(content) > _LARGEST:
        raise ValueError(f"A file of an archive must be smaller than {_LARGEST} bytes. Received: {name}")
    return content


def images(name: str, paths: dict[str, Path], split: str) -> Iterator[tuple[np.ndarray, int]]:
    """Image `(size, size, 3)`, uint8, and class of each example of a split, in the order of their names.

    Flowers, which come one class after the other, are in a fixed random order: the first few are a sample.

    Args:
        name: A name in `ARCHIVES`.
        paths: Where the archives are, by the keys of `ARCHIVES[name]`.
        split: `"train"` or `"test"`.

    Raises:
        ValueError: If an archive is not what it should be.
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
    """A class is a folder of training images, with a table of them; the test images have one table."""
    if split == "train":
        expected, seen = set[str](), set[str]()
        for file, content in files(paths["train"]):
            match = re.search(r"(?:^|/)Images/(\d{5})/([\w-]+\.(?:ppm|csv))$", file)
            if match and file.endswith(".csv"):
                expected |= {f"{match[1]}/{image}" for image in _table(content, file)}
            elif match:
                seen.add(f"{match[1]}/{match[2]}")
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
            seen.add(match[1])
            yield file, content, labels[match[1]]
    _complete(paths["test"], labels.keys() - seen)


def _table(content: bytes, name: str) -> dict[str, int]:
    """Classes by the names of images."""
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8")), delimiter=";")
        return {row["Filename"]: int(row["ClassId"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a table of Filename and ClassId, with semicolons. Received: {error}"
        ) from error


def _complete(path: Path, missing: Collection[str]) -> None:
    if missing:
        raise ValueError(f"{path} must be complete. Received: {len(missing)} images missing, such as {min(missing)}")


def _flowers(path: Path, split: str) -> Iterator[tuple[str, bytes, int]]:
    """80 photographs a class, one class after the other; a fixed draw of 72 of each is for training."""
    order, classes = np.random.default_rng(17), CLASSES["oxford_flower17"]
    chosen = {
        _OF_A_FLOWER * label + 1 + row
        for label in range(classes)
        for row in order.permutation(_OF_A_FLOWER)[:_FOR_TRAINING]
    }
    missing = {f"image_{number:04d}.jpg" for number in range(1, classes * _OF_A_FLOWER + 1)}
    for file, content in files(path):
        match = re.search(r"(?:^|/)jpg/(image_(\d{4})\.jpg)$", file)
        if match:
            missing.discard(match[1])
            if (int(match[2]) in chosen) == (split == "train"):
                yield file, content, (int(match[2]) - 1) // _OF_A_FLOWER
    _complete(path, missing)


def _decoded(content: bytes, size: int, name: str) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{name} is read with Pillow, of the extra 'data': pip install pillow") from error
    try:
        with Image.open(io.BytesIO(content), formats=["PPM", "JPEG"]) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} must be a PPM or JPEG image. Received: {error}") from error
