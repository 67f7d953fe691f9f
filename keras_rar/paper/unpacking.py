"""Read zip and tar archives that nobody vouches for, file by file, within limits.

Nothing is written to disk, and names are never used as paths. An archive is refused as soon as it breaks a limit: on
its files, on its headers, on their number and names, or on all that it unpacks to.
"""

import gzip
import io
import itertools
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

LARGEST_FILE = 2**21  # bytes; the largest image of either set has less than a megabyte
MOST_FILES = 10**5  # folders and files of an archive; the largest has 39,252
LARGEST_TOTAL = 2**30  # bytes; the largest archive unpacks to 276 megabytes
LARGEST_HEADER = 2**13  # bytes of a tar's headers of one file
LARGEST_TABLE = 2**23  # bytes of a zip's table of contents, twice what 39,252 files need
LONGEST_NAME = 255
DEEPEST_NAME = 16  # folders in folders

_BLOCK = tarfile.BLOCKSIZE
_MORE_HEADERS = {  # they are followed by their content, and then by the header of the file that they are about
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What reading a damaged or an encrypted archive raises."""


class ArchiveError(ValueError):
    """An archive that cannot be read, or that breaks a limit."""


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a zip or gzipped tar archive, in a folder, or of one file.

    Args:
        path: An archive, a folder, or any other file.

    Yields:
        Pairs of a name, with `/` between folders, and the bytes of the file.

    Raises:
        ArchiveError: A `ValueError`, if the archive is damaged or encrypted, breaks a limit of this module, or holds
            links, sparse files, the same name twice, or names that lead out of it.
    """
    try:
        if path.is_dir():
            yield from _of_folder(path)
            return
        with path.open("rb") as opened:
            begins = opened.read(2)
        if begins == b"PK":
            yield from _checked(path, _of_zip(path))
        elif begins == b"\x1f\x8b":
            yield from _checked(path, _of_tar(path))
        else:
            with path.open("rb") as opened:
                yield path.name, _whole(path, opened, path.name)
    except ArchiveError:
        raise
    except _DAMAGED as error:
        raise ArchiveError(f"{path} must be a whole archive. Received: one that cannot be read ({error})") from error


def _refuse(path: Path, must: str, received: str) -> NoReturn:
    raise ArchiveError(f"{path} must {must}. Received: {received}")


def _shown(name: str) -> str:
    """A name for an error message: short, on one line."""
    return repr(name if len(name) <= 80 else f"{name[:80]}…")


def _whole(path: Path, opened: IO[bytes], name: str) -> bytes:
    content = opened.read(LARGEST_FILE + 1)  # the size that the archive declares may be another
    if len(content) > LARGEST_FILE:
        _refuse(path, f"hold files of at most {LARGEST_FILE} bytes", f"more in {_shown(name)}")
    return content


def _of_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    found = list(itertools.islice(path.rglob("*"), MOST_FILES))
    if len(found) == MOST_FILES:
        _refuse(path, f"hold fewer than {MOST_FILES} files", "more")
    for file in sorted(found):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                yield file.relative_to(path.parent).as_posix(), _whole(path, opened, file.name)


def _checked(path: Path, members: Iterator[tuple[str, bytes | None]]) -> Iterator[tuple[str, bytes]]:
    """The files among the members `(name, content)`, which have content `None` if they are folders."""
    seen, total = set[str](), 0
    for number, (name, content) in enumerate(members):
        parts = name.split("/")
        if number >= MOST_FILES:
            _refuse(path, f"hold fewer than {MOST_FILES} files", "more")
        if len(name) > LONGEST_NAME or len(parts) > DEEPEST_NAME:
            limits = f"{LONGEST_NAME} characters, {DEEPEST_NAME} folders deep"
            _refuse(path, f"hold names of at most {limits}", _shown(name))
        if name.startswith(("/", "\\")) or ":" in parts[0] or ".." in name.replace("\\", "/").split("/"):
            _refuse(path, "hold names inside of itself", _shown(name))
        if content is None:
            continue
        if name in seen:
            _refuse(path, "hold each file once", f"{_shown(name)} twice")
        seen.add(name)
        total += len(content)
        if total > LARGEST_TOTAL:
            _refuse(path, f"unpack to at most {LARGEST_TOTAL} bytes", "more")
        yield name, content


class _Table(io.FileIO):
    """A zip file whose table of contents is refused before `zipfile` has made objects of it."""

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        size = left if size is None or size < 0 else min(size, left)
        if size > LARGEST_TABLE:
            _refuse(Path(str(self.name)), f"have a table of contents of at most {LARGEST_TABLE} bytes", f"{size}")
        content = super().read(size)
        if content.count(b"PK\x01\x02") > MOST_FILES:  # each entry of the table begins so
            _refuse(Path(str(self.name)), f"hold fewer than {MOST_FILES} files", "more")
        return content


def _of_zip(path: Path) -> Iterator[tuple[str, bytes | None]]:
    with _Table(path) as table, zipfile.ZipFile(table) as archive:
        for entry in archive.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                _refuse(path, "hold nothing but files and folders", f"a link or a device, {_shown(entry.filename)}")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                _refuse(path, "be deflated or stored", f"another compression, of {_shown(entry.filename)}")
            if entry.is_dir():
                yield entry.filename.rstrip("/"), None
                continue
            with archive.open(entry) as opened:
                yield entry.filename, _whole(path, opened, entry.filename)


def _of_tar(path: Path) -> Iterator[tuple[str, bytes | None]]:
    with gzip.open(path) as stream:
        while (member := _tar_header(path, stream)) is not None:
            name = member.name
            if member.isdir():
                yield name, None
                continue
            if not member.isreg():
                _refuse(path, "hold nothing but files and folders", f"a link or a device, {_shown(name)}")
            if member.size > LARGEST_FILE:
                _refuse(path, f"hold files of at most {LARGEST_FILE} bytes", f"{member.size} in {_shown(name)}")
            content = _exactly(stream, member.size)
            _exactly(stream, -member.size % _BLOCK)
            yield name, content
        behind = 0
        while block := stream.read(2**16):  # to the checksum: damage may look like the end of a tar
            behind += len(block)
            if behind > LARGEST_FILE:
                _refuse(path, f"have at most {LARGEST_FILE} bytes behind its last file", "more")


def _tar_header(path: Path, stream: gzip.GzipFile) -> tarfile.TarInfo | None:
    """The next file, by its headers, which are read within a limit before `tarfile` sees them; `None` at the end."""
    headers = b""
    while True:
        block = stream.read(_BLOCK)
        if not headers and (not block or block == bytes(_BLOCK)):
            return None
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        more = -(-member.size // _BLOCK) * _BLOCK if member.type in _MORE_HEADERS else 0
        if member.size < 0 or len(headers) + len(block) + more > LARGEST_HEADER:
            _refuse(
                path,
                f"have headers of at most {LARGEST_HEADER} bytes a file",
                f"one of {max(member.size, len(headers))}",
            )
        headers += block + _exactly(stream, more)
        if member.type == tarfile.GNUTYPE_SPARSE or b"GNU.sparse" in headers:
            _refuse(path, "hold whole files", f"a sparse one, {_shown(member.name)}")
        if member.type not in _MORE_HEADERS:
            with tarfile.open(fileobj=io.BytesIO(headers), mode="r:") as archive:
                found = archive.next()
            if found is None or found.size < 0:
                raise tarfile.ReadError("a header of a file says nothing of it")
            return found


def _exactly(stream: gzip.GzipFile, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("it ends within a file")
    return content
