"""A file is whole whenever it is there, also if several processes write it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keras_rar.core import files


def test_two_writers_do_not_mix_their_parts(tmp_path):
    """Both are in the middle of writing when the other is; the file is that of one of them, and no part stays."""
    path, meet = tmp_path / "kept.txt", threading.Barrier(2)

    def write(letter):
        with files.whole(path) as part:
            meet.wait(10)
            part.write_text(letter * 1000)
            meet.wait(10)
            with part.open("a") as file:
                file.write(letter * 1000)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in ("a" * 2000, "b" * 2000)
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import runpy, sys
from pathlib import Path

whole = runpy.run_path(sys.argv[1])["whole"]
for _ in range(200):
    with whole(Path(sys.argv[2])) as part:
        part.write_text(sys.argv[3] * 100_000)
"""


def test_two_processes_write_one_file(tmp_path):
    path = tmp_path / "kept.txt"
    commands = [[sys.executable, "-c", WRITER, files.__file__, str(path), letter] for letter in "ab"]
    writers = [subprocess.Popen(command) for command in commands]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.add(path.read_text())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {"a" * 100_000, "b" * 100_000}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_the_earlier_file_stays_and_no_part(tmp_path, error):
    path = tmp_path / "kept.txt"
    path.write_text("before")

    def write():
        with files.whole(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_ends_as_the_file_does_and_may_have_a_long_name(tmp_path):
    path = tmp_path / ("x" * 230 + ".weights.h5")
    with files.whole(path) as part:
        part.write_text("content")
        assert part.name.endswith(".weights.h5")
        assert part.parent == Path(tmp_path)
    assert path.read_text() == "content"
