"""How far a long computation has come, and how long it will still take."""

import sys
import threading
import time
from types import TracebackType

from keras_rar.evaluation.wording import counted

WIDTH = 20


class Progress:
    """A line of text that says how much is done, with an estimate of the time left; use it in a `with` statement.

    On a terminal or in a notebook the line is written anew, at most ten times per second; elsewhere, as in a file, a
    line is added at most every half minute. The estimate leaves out the time until the first call of `show`, which is
    mostly spent on compiling: if that takes longer than `PATIENCE` seconds, the line says so.

    Args:
        title: What is being done.
        total: Positive integer, how many there are.
        unit: What one of them is.
        done: How many were done before.
        visible: Whether to write anything.

    Example:

    >>> with Progress("predictions", 50, "example", 0, visible=False) as progress:
    ...     progress.show(12.5)
    """

    PATIENCE = 2.0

    def __init__(self, title: str, total: int, unit: str, done: float, visible: bool):
        self._title, self._total, self._unit = title, total, unit
        self._begun_with, self._visible = done, visible and done < total
        self._file = sys.stdout
        self._live = self._file.isatty() or "ipykernel" in sys.modules
        self._interval = 0.1 if self._live else 30.0
        self._since, self._at_first = time.monotonic(), done
        self._first: float | None = None
        self._last: float | None = None
        self._written, self._width, self._closed = -float("inf"), 0, False
        self._lock = threading.Lock()
        self._timer = threading.Timer(self.PATIENCE, self._compiling)
        self._timer.daemon = True

    def __enter__(self) -> "Progress":
        if self._visible:
            before = f", {self._begun_with:g} done before" if self._begun_with else ""
            self._write_line(f"{self._title}: {counted(self._total, self._unit)}{before}")
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._width:
                self._file.write("\n")
                self._file.flush()

    def show(self, done: float) -> None:
        """Say that so many are done, a share of one included."""
        self._timer.cancel()
        if not self._visible:
            return
        now = time.monotonic()
        if self._first is None:
            self._first, self._at_first = now, done
        if done == self._last or (done < self._total and now - self._written < self._interval):
            return
        self._written, self._last = now, done
        with self._lock:
            self._write(f"{self._bar(done)} {self._time(done, now)}")

    def _compiling(self) -> None:
        with self._lock:
            if not self._closed and self._first is None:
                self._write(f"{self._bar(self._begun_with)} compiling…")

    def _bar(self, done: float) -> str:
        filled = int(WIDTH * done / self._total)
        count = f"{int(done):{len(str(self._total))}d}/{self._total}"
        return f"{count} [{'=' * filled}{'.' * (WIDTH - filled)}]" if self._live else f"{self._title}: {count},"

    def _time(self, done: float, now: float) -> str:
        if done >= self._total:
            return f"in {duration(now - self._since)}"
        if self._first is None or done <= self._at_first:
            return "begun"
        return f"{duration((self._total - done) * (now - self._first) / (done - self._at_first))} left"

    def _write(self, text: str) -> None:
        if not self._live:
            return self._write_line(text)
        self._file.write(f"\r{text.ljust(self._width)}")
        self._file.flush()
        self._width = len(text)

    def _write_line(self, text: str) -> None:
        self._file.write(f"{text}\n")
        self._file.flush()


def duration(seconds: float) -> str:
    """A time for people.

    Example:

    >>> duration(7.6), duration(200), duration(7500)
    ('8 s', '3 min 20 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
