"""GTSRB and Oxford's flowers as tensorflow-datasets downloads them."""

import dataclasses
import hashlib

import numpy as np
import pytest
from archive_cases import flowers, signs

from keras_rar.paper import archives, datasets


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


@pytest.mark.slow
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
