"""GTSRB and Oxford's flowers, from small archives in the official layout."""

import dataclasses
import hashlib
import io
import pickle
import re
import shutil
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_rar.paper import archives, datasets
from keras_rar.paper.augmentation import balanced, equalized, pipeline, transformations

LISTED = "GTSRB/Final_Training/Images/00007/GT-00007.csv"
ROI = "Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"


def encoded(color, size=(40, 36), format="PPM"):
    """An image of one colour."""
    content = io.BytesIO()
    Image.new("RGB", size, color).save(content, format, **({"quality": 95} if format == "JPEG" else {}))
    return content.getvalue()


def zipped(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def tarred(path, entries):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def signs(folder, training=None, test=None, table=None):
    """The three archives: a class's images have its number for red, those of the test their own for green."""
    folder.mkdir(parents=True, exist_ok=True)
    table = {0: 42, 1: 7, 2: 0} if table is None else table
    root = "GTSRB/Final_Training/Images"
    entries = {f"{root}/Readme.txt": b"about"}
    for label in (0, 7, 42):
        entries[f"{root}/{label:05d}/GT-{label:05d}.csv"] = f"Filename;{ROI};ClassId\n".encode()
        entries |= {f"{root}/{label:05d}/00000_{row:05d}.ppm": encoded((label, row, 0)) for row in range(2)}
    zipped(folder / "GTSRB_Final_Training_Images.zip", entries | (training or {}))
    root = "GTSRB/Final_Test/Images"
    entries = {f"{root}/{row:05d}.ppm": encoded((0, row, 9), size=(20 + row, 33)) for row in (2, 0, 1)}
    entries[f"{root}/GT-final_test.test.csv"] = b"Filename;Width\n00000.ppm;20\n"
    zipped(folder / "GTSRB_Final_Test_Images.zip", entries | (test or {}))
    rows = "".join(f"{row:05d}.ppm;20;33;5;5;15;28;{label}\r\n" for row, label in table.items())
    zipped(folder / "GTSRB_Final_Test_GT.zip", {"GT-final_test.csv": f"Filename;{ROI};ClassId\r\n{rows}"})
    return folder


def flowers(folder, more=None):
    """All 1,360 photographs, small: a class has a red of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [encoded((15 * label, 0, 0), size=(10, 8), format="JPEG") for label in range(17)]
    entries = {"jpg/files.txt": b"image_0001.jpg\n"}
    entries |= {f"jpg/image_{row + 1:04d}.jpg": images[row // 80] for row in range(1360)}
    tarred(folder / "17flowers.tgz", entries | (more or {}))
    return folder


def test_signs_are_read_from_the_official_archives(tmp_path):
    folder = signs(tmp_path)
    images, labels = datasets.raw("gtsrb", "train", data_dir=folder)
    assert (images.shape, images.dtype, labels.tolist()) == ((6, 32, 32, 3), "uint8", [0, 0, 7, 7, 42, 42])
    np.testing.assert_array_equal(images[:, 5, 5, 0], labels)
    images, labels = datasets.raw("gtsrb", "test", data_dir=folder)
    assert labels.tolist() == [42, 7, 0]
    assert images[:, 5, 5, 1].tolist() == [0, 1, 2]  # in the order of names, not that of the archive


def test_signs_come_equalized_in_0_to_255(tmp_path):
    """An image of one colour has nothing to equalise; one of two values spreads over the range."""
    two = np.full((32, 32, 3), 100, np.uint8)
    two[:16] = 110
    content = io.BytesIO()
    Image.fromarray(two).save(content, "PPM")
    name = "GTSRB/Final_Training/Images/00042/00001_00000.ppm"
    (x, y), (x_test, _) = datasets.load("gtsrb", data_dir=signs(tmp_path, training={name: content.getvalue()}))
    assert (x.shape, x.dtype, y.dtype, x_test.shape) == ((7, 32, 32, 3), "float32", "int64", (3, 32, 32, 3))
    assert np.unique(x[-1]).tolist() == [0, 255]
    np.testing.assert_array_equal(x[:6, 5, 5, 0], y[:6])


def test_flowers_are_divided_72_to_8_in_each_class(tmp_path):
    folder = flowers(tmp_path)
    (x, y), (x_test, y_test) = datasets.load("oxford_flower17", data_dir=folder)
    assert (x.shape, x_test.shape, x.dtype) == ((1224, 128, 128, 3), (136, 128, 128, 3), "float32")
    np.testing.assert_array_equal(np.bincount(y), [72] * 17)
    np.testing.assert_array_equal(np.bincount(y_test), [8] * 17)
    np.testing.assert_allclose(x[:, 60, 60, 0], 15 * y, atol=3)  # of JPEG
    again = datasets.raw("oxford_flower17", "test", data_dir=folder)[1]
    np.testing.assert_array_equal(again, y_test)


def test_no_flower_is_in_both_splits(tmp_path):
    entries = {
        f"jpg/image_{row + 1:04d}.jpg": encoded((row % 256, row // 256, 9), (8, 8), "PPM") for row in range(1360)
    }
    tarred(tmp_path / "17flowers.tgz", entries)
    splits = [datasets.raw("oxford_flower17", split, data_dir=tmp_path)[0][:, 0, 0] for split in ("train", "test")]
    found = [tuple(color) for split in splits for color in split.tolist()]
    assert len(found) == len(set(found)) == 1360


@pytest.mark.parametrize("name", ["gtsrb", "oxford_flower17"])
def test_unpacked_archives_are_read_too(tmp_path, name):
    packed = signs(tmp_path / "packed") if name == "gtsrb" else flowers(tmp_path / "packed")
    unpacked = tmp_path / "unpacked"
    for path in packed.iterdir():
        shutil.unpack_archive(path, unpacked)
    for split in ("train", "test"):
        for a, b in zip(*(datasets.raw(name, split, data_dir=f) for f in (packed, unpacked)), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "files"),
    [("gtsrb", ["GTSRB_Final_Training_Images.zip", "GTSRB_Final_Test_GT.zip"]), ("oxford_flower17", ["17flowers.tgz"])],
)
def test_missing_archives_are_named(tmp_path, name, files):
    with pytest.raises(FileNotFoundError, match="`data_dir` must hold") as raised:
        datasets.load(name, data_dir=tmp_path)
    assert all(file in str(raised.value) for file in files)
    assert str(tmp_path) in str(raised.value)


class Touch:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def everything(folder):
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["../../jpg/image_2000.jpg", "/jpg/image_2000.jpg", "../escaped.jpg"])
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path, monkeypatch, name, split):
    folder = flowers(tmp_path / "home/data", more={name: encoded((9, 9, 9), format="JPEG")})
    before = everything(tmp_path)
    monkeypatch.chdir(tmp_path / "home")
    with pytest.raises(ValueError, match=r"17flowers\.tgz must hold names inside of itself"):
        datasets.raw("oxford_flower17", split, data_dir=folder)
    assert everything(tmp_path) == before


def test_nothing_of_an_archive_is_written_or_executed(tmp_path, monkeypatch):
    folder = flowers(tmp_path / "home/data", more={"jpg/evil.pkl": pickle.dumps(Touch(tmp_path / "home/pwned"))})
    before = everything(tmp_path)
    monkeypatch.chdir(tmp_path / "home")
    assert len(datasets.raw("oxford_flower17", "train", data_dir=folder)[0]) == 1224
    assert everything(tmp_path) == before


def test_a_flower_of_no_class_is_refused(tmp_path):
    more = {"jpg/image_2000.jpg": encoded((9, 9, 9), format="JPEG")}
    with pytest.raises(ValueError, match="must be below 17"):
        datasets.raw("oxford_flower17", "test", data_dir=flowers(tmp_path, more=more))


@pytest.mark.parametrize("name", ["gtsrb", "oxford_flower17"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_image_in_two_folders_is_refused(tmp_path, name, split):
    """It would count twice."""
    if name == "gtsrb":
        root = {"train": "again/Images/00007/00000_00000.ppm", "test": "again/Images/00001.ppm"}[split]
        folder = signs(tmp_path, **{{"train": "training"}.get(split, split): {root: encoded((0, 0, 0))}})
    else:
        folder = flowers(tmp_path, more={"again/jpg/image_0001.jpg": encoded((0, 0, 0), format="JPEG")})
    with pytest.raises(ValueError, match=r"must hold each image once\. Received: .*0\w+\.(ppm|jpg) twice"):
        datasets.raw(name, split, data_dir=folder)


def test_an_image_of_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    """A black one takes little of its file."""
    content = io.BytesIO()
    Image.new("L", (4096, 4096)).save(content, "JPEG", quality=1)
    name = "GTSRB/Final_Training/Images/00007/00009_00000.ppm"
    with pytest.raises(ValueError, match=r"of at most 8388608 pixels\. Received: 4096 × 4096 pixels"):
        datasets.raw("gtsrb", "train", data_dir=signs(tmp_path, training={name: content.getvalue()}))


def test_a_pickle_named_as_an_image_is_refused(tmp_path):
    evil = {"GTSRB/Final_Training/Images/00001/00000_00000.ppm": pickle.dumps(Touch(tmp_path / "pwned"))}
    with pytest.raises(ValueError, match=r"00001/00000_00000\.ppm must be a PPM or JPEG image"):
        datasets.raw("gtsrb", "train", data_dir=signs(tmp_path, training=evil))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("changes", "split", "match"),
    [
        ({"table": {0: 42, 1: 7}}, "test", r"must name every test image\. Received: none for 00002\.ppm"),
        ({"table": {0: 42, 1: 7, 2: 0, 3: 0, 4: 0}}, "test", r"complete.* 2 images missing, such as 00003\.ppm"),
        ({"table": {0: 42, 1: "none", 2: 0}}, "test", "must be a table of Filename and ClassId"),
        ({"training": {LISTED: b"Filename;ClassId\n00009_00000.ppm;7\n"}}, "train", r"1 images missing.*7/00009_00000"),
        ({"training": {LISTED: b"Filename;ClassId\n" + b"9" * 200_000}}, "train", "must be a table of Filename"),
        ({"training": {LISTED: b"Filename,ClassId\n00000_00000.ppm,7\n"}}, "train", "must be a table of Filename"),
        ({"table": {0: 42, 1: 43, 2: 0}}, "test", r"must be below 43\. Received: 43"),
        ({"training": {"GTSRB/Final_Training/Images/00043/0_0.ppm": encoded((1, 1, 1))}}, "train", "must be below 43"),
        ({"training": {"GTSRB/Final_Training/Images/00001/0_0.ppm": b"P6\n4 4\n255\n1"}}, "train", "must be a PPM"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, split, match):
    with pytest.raises(ValueError, match=match):
        datasets.raw("gtsrb", split, data_dir=signs(tmp_path, **changes))


@pytest.mark.parametrize(
    ("file", "kept", "match"),
    [
        ("GTSRB_Final_Training_Images.zip", 0, "must hold images"),
        ("GTSRB_Final_Training_Images.zip", 0.5, "must be a whole archive"),
        ("17flowers.tgz", 0, r"must be complete\. Received: 1360 images missing"),
        ("17flowers.tgz", 0.5, "must be a whole archive"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path, file, kept, match):
    name = "gtsrb" if file.endswith("zip") else "oxford_flower17"
    folder = signs(tmp_path) if name == "gtsrb" else flowers(tmp_path)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=match):
        datasets.raw(name, "train", data_dir=folder)


@pytest.mark.parametrize("where", [0.1, 0.3, 0.5, 0.9, 0.999])
def test_flowers_damaged_anywhere_are_refused(tmp_path, where):
    """A header that cannot be read looks like the end of a tar."""
    path = flowers(tmp_path) / "17flowers.tgz"
    content = bytearray(path.read_bytes())
    begin = int(where * len(content))
    content[begin : begin + 20] = bytes(255 - byte for byte in content[begin : begin + 20])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must (be a whole archive|be complete|be a PPM or JPEG)"):
        datasets.raw("oxford_flower17", "train", data_dir=tmp_path)


def test_flowers_must_all_be_there(tmp_path):
    tarred(tmp_path / "17flowers.tgz", {"jpg/image_0001.jpg": encoded((0, 0, 0), format="JPEG")})
    with pytest.raises(ValueError, match=r"Received: 1359 images missing, such as image_0002\.jpg"):
        datasets.raw("oxford_flower17", "train", data_dir=tmp_path)


def test_a_tar_whose_end_is_damaged_is_refused(tmp_path):
    path = flowers(tmp_path) / "17flowers.tgz"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))  # the checksum
    with pytest.raises(ValueError, match="must be a whole archive"):
        datasets.raw("oxford_flower17", "train", data_dir=tmp_path)


def test_an_encrypted_archive_is_refused(tmp_path):
    path = signs(tmp_path) / "GTSRB_Final_Training_Images.zip"
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        for match in re.finditer(re.escape(signature), bytes(content)):
            content[match.start() + at] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must be a whole archive.*encrypted"):
        datasets.raw("gtsrb", "train", data_dir=tmp_path)


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    signs(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="Pillow, of the extra 'data'"):
        datasets.raw("gtsrb", "train", data_dir=tmp_path)


# tensorflow-datasets


@pytest.fixture
def published(tmp_path, monkeypatch):
    """What is downloaded comes from a folder, and its checksums are those of its files."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = flowers(signs(tmp_path / "host"))
    own = {
        name: {
            key: dataclasses.replace(archive, md5=hashlib.md5((folder / archive.file).read_bytes()).hexdigest())  # noqa: S324
            for key, archive in of_name.items()
        }
        for name, of_name in archives.ARCHIVES.items()
    }
    monkeypatch.setattr(archives, "ARCHIVES", own)
    download = lambda self, urls: {key: folder / url.rsplit("/", 1)[1] for key, url in urls.items()}  # noqa: E731
    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    return folder


@pytest.mark.parametrize("name", ["gtsrb", "oxford_flower17"])
def test_downloaded_by_tensorflow_datasets_they_are_the_same(published, name):
    for split in ("train", "test"):
        found, expected = datasets.raw(name, split), datasets.raw(name, split, data_dir=published)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_another_download_than_the_published_is_refused(published):
    (published / "GTSRB_Final_Test_GT.zip").write_bytes(b"something else")
    with pytest.raises(FileNotFoundError, match=r"must have the MD5 sum [0-9a-f]{32}\. Received: .*data_dir"):
        datasets.load("gtsrb")


def test_the_published_addresses_are_those_of_the_official_hosts():
    urls = [archive.url for of_name in archives.ARCHIVES.values() for archive in of_name.values()]
    assert all(re.match(r"https://(sid\.erda\.dk|www\.robots\.ox\.ac\.uk)/", url) for url in urls)


# Preprocessing and augmentation


def reference_equalization(channel):
    """Of one channel of bytes, as OpenCV's `equalizeHist` is documented to do it."""
    counts = np.bincount(channel.ravel(), minlength=256)
    below = counts.cumsum()
    first = below[counts.nonzero()[0][0]]
    return np.rint((below - first) * 255 / (below[-1] - first))[channel]


def test_each_channel_of_each_image_is_equalized_by_itself():
    images = np.random.default_rng(0).integers(40, 120, size=(3, 32, 32, 3), dtype=np.uint8)
    images[1] //= 2
    expected = [np.stack([reference_equalization(image[..., c]) for c in range(3)], axis=-1) for image in images]
    np.testing.assert_array_equal(equalized(images), expected)


def test_transformations_move_and_keep_what_the_paper_says():
    x = np.zeros((200, 32, 32, 1), np.float32)
    x[:, 14:18, 14:18] = 200.0
    found = transformations(32, seed=3)(x, training=True).numpy()
    assert found.min() >= 0
    assert found.max() <= 200.001
    assert len({image.tobytes() for image in found}) == 200  # each its own
    rows = (found.sum(axis=(2, 3)) * np.arange(32)).sum(axis=1) / found.sum(axis=(1, 2, 3))
    assert rows.std() > 0.5
    assert np.abs(rows - 15.5).max() < 2.5 + 0.24 * 32


@pytest.mark.parametrize(("layer", "least", "most"), [(0, 0.05, 15.0), (1, 0.05, 2.5), (2, 0.05, 0.24 * 32)])
def test_each_transformation_does_its_part(layer, least, most):
    """A bar turns by at most 15°; a dot moves by at most 2.5 pixels, and no further than a corner."""
    x = np.zeros((200, 32, 32, 1), np.float32)
    if layer == 0:
        x[:, 15:17, 2:30] = 1.0
    else:
        x[:, 14:18, 14:18] = 1.0
    found = transformations(32, seed=3).layers[layer](x, training=True).numpy()[..., 0]
    i, j = np.mgrid[:32, :32] - 15.5
    mass = found.sum(axis=(1, 2))
    if layer == 0:
        second = [(found * part).sum(axis=(1, 2)) / mass for part in (i * j, j * j - i * i)]
        moved = np.degrees(0.5 * np.arctan2(2 * second[0], second[1]))
    else:
        moved = (found * i).sum(axis=(1, 2)) / mass
    assert moved.std() > least * most
    assert 0.5 * most < np.abs(moved).max() <= most + 0.2
    assert np.abs(moved.mean()) < 3 * moved.std() / np.sqrt(200) + 0.05 * most  # to either side


def test_a_balanced_set_has_every_original_once():
    labels = np.array([2, 0, 2, 2, 1])
    rows, is_new = balanced(labels, 4)
    assert sorted(rows[~is_new]) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(np.bincount(labels[rows]), [4, 4, 4])
    np.testing.assert_array_equal(np.bincount(labels[balanced(labels, 2)[0]]), [2, 2, 3])  # none is left out


def test_the_pipeline_is_balanced_and_transforms_copies_only():
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    labels = np.array([0, 0, 0, 0, 1])
    data = pipeline(images, labels, 4, batch_size=3, equalize=False)
    stream = [tuple(map(np.asarray, batch)) for batch in data.stream().take(2 * len(data))]
    epochs = [stream[: len(data)], stream[len(data) :]]
    for batches in epochs:
        x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
        np.testing.assert_array_equal(np.bincount(y), [4, 4])
        assert (x.min() >= 0, x.max() <= 255, x.dtype) == (True, True, "float32")
        originals = [image for image in x if any((image == other).all() for other in images)]
        assert len(originals) == 5
    assert not np.array_equal(np.concatenate([b[0] for b in epochs[0]]), np.concatenate([b[0] for b in epochs[1]]))


@pytest.mark.parametrize("start", [1, 4])
def test_the_pipeline_goes_on_from_any_batch_on(start):
    """Transformations too, in a new process or behind what was made ahead."""
    images, labels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8), np.array([0, 0, 1])

    def made(data, first):
        return [x for x, _ in data.stream(first).take(6 - first).as_numpy_iterator()]

    data = pipeline(images, labels, 4, batch_size=3, equalize=False)
    whole = made(data, 0)
    assert len({x.tobytes() for x in whole}) == 6
    for again in (data, pipeline(images, labels, 4, batch_size=3, equalize=False)):
        np.testing.assert_array_equal(np.concatenate(made(again, start)), np.concatenate(whole[start:]))
    other = pipeline(images, labels, 4, batch_size=3, equalize=False, seed=1)
    assert not np.array_equal(np.concatenate(made(other, start)), np.concatenate(whole[start:]))


def test_the_pipeline_equalizes_image_by_image():
    images = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16, 1) // 4, np.full((16, 16, 1), 9, np.uint8)])
    (x, y), *_ = pipeline(images, np.array([0, 1]), 1, batch_size=2, equalize=True).stream().take(1)
    assert float(tf.reduce_max(x[int(y[0])])) == 255.0
    assert np.unique(x[1 - int(y[0])]).tolist() == [9]
