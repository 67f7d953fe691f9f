"""Archives that nobody vouches for: what each limit refuses, in one sentence and in little memory."""

import gzip
import io
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from keras_rar.paper import unpacking

LARGE = 50_000_000  # bytes that a reader without limits would hold at once
FEW = 12_000_000  # bytes that refusing may take: a table of contents may have 8 megabytes


def refused_within(path, match, memory=FEW):
    """Refused by name, in one line; `memory` is what Python may hold at most."""
    tracemalloc.start()
    try:
        with pytest.raises(unpacking.ArchiveError, match=match) as raised:
            for _ in unpacking.files(path):
                pass
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(raised.value)
    assert message.startswith(f"{path} must ")
    assert ". Received: " in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300
    assert held < memory


def tar_of(path, *members, format=tarfile.GNU_FORMAT, content=b"x"):
    with tarfile.open(path, "w:gz", format=format, compresslevel=1) as tar:
        for member in members:
            member = tarfile.TarInfo(member) if isinstance(member, str) else member
            member.size = member.size or (len(content) if member.isreg() else 0)
            tar.addfile(member, io.BytesIO(content))
    return path


def of_type(kind, name="jpg/image_0001.jpg", linkname="../../secret"):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member


def raw_tar(path, *parts):
    """Blocks as they are: bytes, or `(header, content)`."""
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for part in parts:
            stream.write(part)
    return path


def header(name="jpg/image_0001.jpg", size=0, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(content):
    return content + bytes(-len(content) % 512)


def record(key, value):
    """A record of a PAX header, which begins with its own length."""
    content = b" %s=%s\n" % (key.encode(), value.encode())
    length = len(content) + len(str(len(content) + 2))
    return b"%d%s" % (length, content)


def zip_of(path, entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


# What is read


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_files_of_a_tar_are_read(tmp_path, format):
    names = ["jpg/image_0001.jpg", "jpg/" * 10 + "n" * 90, "./b/c"]
    names += [] if format == tarfile.USTAR_FORMAT else ["jpg/" + "ü" * 100]
    path = tar_of(tmp_path / "a.tgz", of_type(tarfile.DIRTYPE, "jpg"), *names, format=format, content=b"0123")
    assert list(unpacking.files(path)) == [(name, b"0123") for name in names]


def test_files_of_a_zip_are_read(tmp_path):
    path = zip_of(tmp_path / "a.zip", [("b/", b""), ("b/c", b"0123"), ("b/ü", b"")])
    assert list(unpacking.files(path)) == [("b/c", b"0123"), ("b/ü", b"")]


def test_files_of_a_folder_are_read_but_not_its_links(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(b"0123")
    (tmp_path / "a/b/link").symlink_to(tmp_path / "a/b/c")
    assert list(unpacking.files(tmp_path / "a")) == [("a/b/c", b"0123")]
    assert list(unpacking.files(tmp_path / "a/b/c")) == [("c", b"0123")]


# Headers of tars


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_long_name_in_a_tar_is_refused_before_it_is_read(tmp_path, format):
    path = tar_of(tmp_path / "a.tgz", "jpg/" + "a" * LARGE, format=format)
    assert path.stat().st_size < 1_000_000
    refused_within(path, "must have headers of at most 8192 bytes a file", memory=1_000_000)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
def test_other_long_headers_are_refused_before_they_are_read(tmp_path, kind):
    path = raw_tar(tmp_path / "a.tgz", header(size=LARGE, kind=kind), bytes(LARGE), header())
    refused_within(path, "must have headers of at most 8192 bytes a file", memory=1_000_000)


def test_many_short_headers_of_one_file_are_refused(tmp_path):
    """Each is within the limit; `tarfile` would call itself for each of them."""
    one = header("././@LongLink", size=512, kind=tarfile.GNUTYPE_LONGNAME) + padded(b"a" * 500)
    path = raw_tar(tmp_path / "a.tgz", *[one] * 50_000, header())
    refused_within(path, "must have headers of at most 8192 bytes a file", memory=1_000_000)


def test_headers_after_headers_are_read_within_the_limit(tmp_path):
    """The last name counts, as for `tarfile`."""
    names = [padded(b"a/%d" % number + bytes(1)) for number in range(3)]
    headers = [header("././@LongLink", size=4, kind=tarfile.GNUTYPE_LONGNAME) + name for name in names]
    path = raw_tar(tmp_path / "a.tgz", *headers, header("b", size=3), padded(b"012"), bytes(1024))
    with tarfile.open(path) as tar:
        expected = tar.getnames()
    assert [name for name, _ in unpacking.files(path)] == expected


@pytest.mark.parametrize(
    "content",
    [
        b"0123456 no record",
        b"99999 path=a\n",
        b"0 path=a\n",
        record("size", "-5"),
        record("size", "9" * 30),
        b"\xff" * 100,
    ],
)
def test_pax_headers_that_say_nonsense_do_no_harm(tmp_path, content):
    """They are ignored or refused, and never another error."""
    parts = header("p", len(content), tarfile.XHDTYPE), padded(content), header("a", 3), padded(b"012"), bytes(1024)
    try:
        assert [content for _, content in unpacking.files(raw_tar(tmp_path / "a.tgz", *parts))] == [b"012"]
    except unpacking.ArchiveError as error:
        assert str(error).startswith(f"{tmp_path / 'a.tgz'} must ")  # noqa: PT017


@pytest.mark.parametrize("damage", ["checksum", "size", "short"])
def test_a_damaged_header_is_not_taken_for_the_end(tmp_path, damage):
    first, second = header("a", 3) + padded(b"012"), header("b", 3) + padded(b"012")
    second = {
        "checksum": b"c" + second[1:],
        "size": header("b", 600) + padded(b"012"),
        "short": second[:100],
    }[damage]
    refused_within(raw_tar(tmp_path / "a.tgz", first, second), "must be a whole archive")


# Files that are no plain files


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"?"]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = raw_tar(tmp_path / "a.tgz", header(kind=kind), bytes(1024))
    refused_within(path, r"nothing but files and folders\. Received: a link or a device, 'jpg/image_0001\.jpg'")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("b")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    refused_within(zip_of(tmp_path / "a.zip", [(entry, b"/etc/passwd")]), "nothing but files and folders")


def test_sparse_files_are_refused(tmp_path):
    """A gigabyte of nothing in three blocks; in PAX headers too."""
    old = bytearray(header(size=0, kind=tarfile.GNUTYPE_SPARSE))
    old[483:495] = b"%011o\0" % 2**30
    old[148:156] = b" " * 8
    old[148:156] = b"%06o\0 " % sum(old)
    refused_within(raw_tar(tmp_path / "a.tgz", bytes(old), bytes(1024)), "must hold whole files")
    pax = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.realsize", str(2**30))
    parts = header("p", len(pax), tarfile.XHDTYPE), padded(pax), header("b", 512), padded(b"0\n"), bytes(1024)
    refused_within(raw_tar(tmp_path / "b.tgz", *parts), "must hold whole files")


# Names


OUTSIDE = ["../a", "a/../../b", "/etc/passwd", "..", "C:/a", "a\\..\\..\\b", "\\a"]
TOO_LONG = ["a" * 256, "/".join("a" * 17)]


@pytest.mark.parametrize(
    ("name", "match"),
    [*((name, "names inside of itself") for name in OUTSIDE), *((name, "names of at most 255") for name in TOO_LONG)],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_are_refused(tmp_path, kind, name, match):
    path = tmp_path / f"a.{kind}"
    refused_within(tar_of(path, name) if kind == "tar" else zip_of(path, [(name, b"")]), match)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_given_twice_is_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    made = tar_of(path, "a/b", "a/b") if kind == "tar" else zip_of(path, [("a/b", b"0"), ("a/b", b"1")])
    refused_within(made, r"each file once\. Received: 'a/b' twice")


def test_a_name_in_a_message_stays_on_its_line(tmp_path):
    refused_within(
        tar_of(tmp_path / "a.tgz", "../\x1b[2J\n" + "a" * 200), r"names inside of itself\. Received: '\.\./\\x1b"
    )


# How many, and how large


@pytest.mark.parametrize("kind", ["tar", "zip", "folder"])
def test_more_members_than_the_limit_are_refused(tmp_path, monkeypatch, kind):
    """Folders count too."""
    monkeypatch.setattr(unpacking, "MOST_FILES", 5)
    path, names = tmp_path / "a", [f"{number}" for number in range(6)]
    if kind == "folder":
        for name in names:
            (path / name).mkdir(parents=True)
    elif kind == "tar":
        tar_of(path, *[of_type(tarfile.DIRTYPE, name) for name in names])
    else:
        zip_of(path, [(f"{name}/", b"") for name in names])
    refused_within(path, "fewer than 5 files")


def table_of_contents(path, entries, comment=b"", zip64=False):
    """A zip of nothing but its table of contents, `entries` times the same."""
    name = b"a"
    one = struct.pack(
        "<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, len(name), 0, len(comment), 0, 0, 0, 0
    )
    one += name + comment
    size, number = len(one) * entries, min(entries, 0xFFFF)
    with path.open("wb") as file:
        file.write(b"PK\3\4" if not entries else b"")
        for begin in range(0, entries, 10_000):
            file.write(one * min(10_000, entries - begin))
        if zip64:
            file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, 0))
            file.write(struct.pack("<4sLQL", b"PK\6\7", 0, size, 1))
        ends = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF) if zip64 else (number, number, size, 0)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *ends, 0))
    return path


@pytest.mark.parametrize("zip64", [False, True])
def test_a_table_of_contents_of_too_many_files_is_refused_before_it_is_made(tmp_path, zip64):
    """`zipfile` would make 150,000 objects first, of half a kilobyte and more each."""
    refused_within(
        table_of_contents(tmp_path / "a.zip", 150_000, zip64=zip64), "fewer than 100000 files", memory=16_000_000
    )


@pytest.mark.parametrize("zip64", [False, True])
def test_a_long_table_of_contents_is_refused_before_it_is_read(tmp_path, zip64):
    path = table_of_contents(tmp_path / "a.zip", 1000, comment=bytes(50_000), zip64=zip64)
    refused_within(path, "table of contents of at most 8388608 bytes", memory=1_000_000)


@pytest.mark.parametrize("kind", ["tar", "zip", "folder", "file"])
def test_a_file_larger_than_the_limit_is_refused_before_it_is_read_to_its_end(tmp_path, kind):
    path = tmp_path / "a"
    if kind == "zip":
        zip_of(path, [("b", bytes(LARGE))])
    elif kind == "tar":
        tar_of(path, "b", content=bytes(LARGE))
    else:
        path = path if kind == "file" else path / "b"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(LARGE)
    path = tmp_path / "a"
    assert kind in ("folder", "file") or os.path.getsize(path) < 1_000_000
    refused_within(path, "files of at most 2097152 bytes")


def test_a_zip_that_declares_a_small_size_is_read_no_further_than_that(tmp_path):
    path = zip_of(tmp_path / "a.zip", [("b", bytes(LARGE))])
    content = path.read_bytes()
    lied = content.replace(struct.pack("<L", LARGE), struct.pack("<L", 10))
    assert lied != content
    path.write_bytes(lied)
    refused_within(path, "must be a whole archive")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(unpacking, "LARGEST_TOTAL", 3500)
    names, path = "abcd", tmp_path / "a"
    made = (
        tar_of(path, *names, content=bytes(1000)) if kind == "tar" else zip_of(path, [(n, bytes(1000)) for n in names])
    )
    refused_within(made, "unpack to at most 3500 bytes")


def test_what_follows_the_end_of_a_tar_is_not_unpacked_for_ever(tmp_path):
    path = raw_tar(tmp_path / "a.tgz", header("a", 3), padded(b"012"), bytes(LARGE))
    refused_within(path, "at most 2097152 bytes behind its last file", memory=1_000_000)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, compression):
    """An LZMA header asks for up to four gigabytes of memory."""
    refused_within(zip_of(tmp_path / "a.zip", [("b", b"0")], compression), "must be deflated or stored")


@pytest.mark.parametrize("damage", ["name", "offset"])
def test_damage_to_a_table_of_contents_is_named(tmp_path, damage):
    path = zip_of(tmp_path / "a.zip", [("ü", b"0123")])
    content = bytearray(path.read_bytes())
    begin = content.index(b"PK\1\2")
    if damage == "name":
        content[begin + 46] = 0xFF  # no UTF-8
    else:
        content[begin + 42 : begin + 46] = b"\xff" * 4
    path.write_bytes(content)
    refused_within(path, "must be a whole archive")
