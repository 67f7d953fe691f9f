"""Files that others read while they are written, or after a run was stopped."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file, so that it is whole whenever it is there: a part beside it, which then takes its place."""
    part = path.with_name(f"part-{path.name}")
    yield part
    part.replace(path)
