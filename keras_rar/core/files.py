"""Writing files that others may read at the same time, or after a run was stopped."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file, so that it is never seen half written: a part beside it, which then takes its place.

    The part has a name of its own: of several processes that write the same file, the last one wins, and the file is
    that of one of them. After an error the part is removed, and an earlier file stays.
    """
    part = path.with_name(f"part-{uuid.uuid4().hex[:12]}-{path.name[-200:]}")  # keeps the end, which tells the format
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
