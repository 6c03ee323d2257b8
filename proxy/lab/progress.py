"""One line on stderr per step of work: with its time on a terminal, plain otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """`quiet` for callers that are programs."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._terminal = not quiet and self._stream.isatty()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        if self._terminal:
            self._write(f"  … {what}")
        try:
            yield
        except BaseException:
            if self._terminal:
                self._write("\r\x1b[K")
            self.note(f"{'✗' if self._terminal else 'failed:'} {what}")
            raise
        took = time.monotonic() - start
        if self._terminal:
            self._write(f"\r\x1b[K  \x1b[32m✓\x1b[0m {what} \x1b[2m{took:.1f} s\x1b[0m\n")
        else:
            self.note(what)

    def note(self, text: str) -> None:
        self._write(f"  {text}\n")

    def _write(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(text)
            self._stream.flush()
