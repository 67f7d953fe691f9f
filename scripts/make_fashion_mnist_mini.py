"""Draw `keras_rar/paper/data/fashion_mnist_mini.npz` from the official Fashion-MNIST files.

    python scripts/make_fashion_mnist_mini.py DIRECTORY

DIRECTORY holds the four official files (`train-images-idx3-ubyte.gz`, …), gzipped. 600 training and 100
test images of each class are drawn with a fixed seed, so the same files give the same arrays.
"""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np

OUT = Path(__file__).parents[1] / "keras_rar/paper/data/fashion_mnist_mini.npz"
PER_CLASS = {"train": 600, "test": 100}
PREFIX = {"train": "train", "test": "t10k"}
SEED = 0


def read(path: Path, header: int) -> np.ndarray:
    """The bytes of a gzipped IDX file, without its header."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def draw(directory: Path, split: str, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a split, balanced by class, in random order."""
    images = read(directory / f"{PREFIX[split]}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read(directory / f"{PREFIX[split]}-labels-idx1-ubyte.gz", 8)
    chosen = [rng.choice(np.flatnonzero(labels == label), PER_CLASS[split], replace=False) for label in range(10)]
    order = rng.permutation(np.concatenate(chosen))
    return images[order], labels[order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    rng = np.random.RandomState(SEED)
    arrays = {}
    for split in PER_CLASS:
        arrays[f"x_{split}"], arrays[f"y_{split}"] = draw(directory, split, rng)
    np.savez_compressed(OUT, **arrays)
    digest = hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
    print(f"{OUT}: {OUT.stat().st_size / 1e6:.2f} MB, sha256 of the arrays {digest}")


if __name__ == "__main__":
    main()
