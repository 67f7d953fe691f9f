"""What is distributed: the wheel's files and metadata, and a source distribution from which the tests run."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import keras_rar

ROOT = Path(__file__).parents[1]
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "site", "*.egg-info", "__pycache__", ".*_cache", "node_modules"
)
LICENSES = ["licenses/LICENSE", "licenses/keras_rar/paper/data/LICENSE"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the source distribution, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "sources", ignore=NOT_SOURCES)
    (folder / "sources/keras_rar/__pycache__").mkdir()
    (folder / "sources/tests/leftover.pyc").write_bytes(b"")
    code = "from setuptools import build_meta as b; b.build_wheel('..'); b.build_sdist('..')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder / "sources", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def sdist(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        yield {name.partition("/")[2]: name for name in archive.getnames()}


def metadata_of(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name)), name.removesuffix("METADATA")


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel):
    packages = [ROOT / "keras_rar", ROOT / "keras_rar_cli"]
    sources = {path.relative_to(ROOT).as_posix() for package in packages for path in package.rglob("*.py*")}
    sources = {name for name in sources if name.endswith((".py", ".pyi"))}
    data = {"keras_rar/py.typed", "keras_rar/paper/data/fashion_mnist_mini.npz"}
    _, about = metadata_of(wheel)
    of_metadata = {name for name in wheel.namelist() if name.startswith(about)}
    assert set(wheel.namelist()) - of_metadata == sources | data
    expected = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", *LICENSES}
    assert {name.removeprefix(about) for name in of_metadata} == expected


def test_nothing_is_in_the_wheel_twice(wheel):
    assert max(Counter(wheel.namelist()).values()) == 1
    contents = Counter((info.CRC, info.file_size) for info in wheel.infolist() if info.file_size)
    assert max(contents.values()) == 1


def test_the_metadata_names_both_licences_with_their_files(wheel):
    metadata, about = metadata_of(wheel)
    assert metadata["License-Expression"] == "Apache-2.0 AND MIT"
    assert not [value for value in metadata.get_all("Classifier") if value.startswith("License ::")]
    assert [f"licenses/{name}" for name in metadata.get_all("License-File")] == LICENSES
    texts = [wheel.read(about + name).decode() for name in LICENSES]
    assert "Apache License" in texts[0]
    assert "MIT License" in texts[1]


def test_metadata_and_command(wheel):
    metadata, about = metadata_of(wheel)
    assert metadata["Version"] == keras_rar.__version__
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True).decode().startswith((ROOT / "README.md").read_text("utf-8")[:200])
    assert wheel.read(about + "entry_points.txt").decode().split("\n")[:2] == [
        "[console_scripts]",
        "keras-rar = keras_rar_cli.command:main",
    ]
    assert wheel.read(about + "top_level.txt").decode().split() == ["keras_rar", "keras_rar_cli"]


def test_the_source_distribution_holds_what_its_tests_read(sdist):
    """Everything that git tracks but trained networks; without git, in unpacked sources, what is there."""
    expected = []
    if shutil.which("git"):
        git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
        expected = [name for name in git.stdout.split("\0") if name and not name.startswith("benchmarks/trained/")]
    for folder in ("tests", "docs", "examples"):
        expected += [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("*.*")]
    missing = sorted(name for name in set(expected) if (ROOT / name).is_file() and name not in sdist)
    assert len(expected) > 10
    assert missing == []


def test_the_source_distribution_holds_no_leftovers(sdist):
    assert not [name for name in sdist if name.endswith(".pyc") or "__pycache__" in name]


@pytest.mark.slow
def test_tests_run_from_an_unpacked_source_distribution(built, tmp_path):
    """In an environment of its own, whose dependencies are those of this one: nothing is downloaded."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (sources,) = [folder for folder in tmp_path.iterdir() if folder.is_dir()]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True, timeout=300)
    python = tmp_path / "env/bin/python"
    (packages,) = (tmp_path / "env/lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    install = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", sources]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(install, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    tests = ["tests/core/test_quadrature.py", "tests/core/test_sizes.py", "tests/paper/test_datasets.py"]
    run = [python, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(run, cwd=sources, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
