"""How far an attack has come: its iterations in segments of about a second."""

import time
from collections.abc import Iterator

from keras_rar.attacks.choices import Progress

SECONDS = 1.0
"""How long a segment should take. One iteration is the least, however long it takes."""


class Watch:
    """Cuts the iterations of an attack into segments, and tells how many examples are done after each.

    The iterates are the same for any segments, since the loop only pauses between two iterations.

    Args:
        steps: Iterations of one run.
        runs: Runs of one batch: starts times objectives.
        progress: What to tell, or `None`: then a run is one segment.
    """

    def __init__(self, steps: int, runs: float, progress: Progress | None):
        self._steps, self._runs, self._progress = steps, runs, progress
        self._rows, self._done, self._size = slice(0, 0), 0, 1

    def begin(self, rows: slice) -> None:
        """A new batch, of these rows."""
        self._rows, self._done = rows, 0

    def segments(self, steps: int | None = None) -> Iterator[tuple[int, int]]:
        """First and last iteration (exclusive) of each segment of one run; ask for the next when one is computed.

        Args:
            steps: Iterations of this run, where runs differ. Defaults to those of every run.
        """
        steps = self._steps if steps is None else steps
        if self._progress is None:
            yield 0, steps
            return
        first = 0
        while first < steps:
            last, began = min(first + self._size, steps), time.perf_counter()
            yield first, last
            self._tell(last - first, time.perf_counter() - began)
            first = last

    def _tell(self, iterations: int, seconds: float) -> None:
        if seconds < SECONDS / 2:
            self._size *= 2
        elif seconds > 2 * SECONDS:
            self._size = max(1, self._size // 2)
        self._done += iterations
        share = self._done / (self._steps * self._runs)
        if self._progress is not None:
            self._progress(self._rows.start + share * (self._rows.stop - self._rows.start))
