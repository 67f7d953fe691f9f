"""GTSRB and Oxford's flowers, from small archives in the official layout."""

import io
import pickle
import re
import shutil
import sys

import numpy as np
import pytest
from archive_cases import encoded, flowers, signs, tarred
from PIL import Image

from keras_rar.paper import archives, datasets

LISTED = "GTSRB/Final_Training/Images/00007/GT-00007.csv"


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


@pytest.mark.slow
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


def test_the_published_addresses_are_those_of_the_official_hosts():
    urls = [archive.url for of_name in archives.ARCHIVES.values() for archive in of_name.values()]
    assert all(re.match(r"https://(sid\.erda\.dk|www\.robots\.ox\.ac\.uk)/", url) for url in urls)
