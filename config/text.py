"""Bytes of a file, read once and within limits; problems become findings.

A file is a regular file of at most 8 MiB in UTF-8. Reading a pipe or a device could block for ever, so only regular
files are opened.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from config import codes
from config.findings import Finding, make_finding

MAX_FILE_BYTES = 8 * 1024 * 1024
_TRIES = 3


def read_file(path: Path, name: str | None = None) -> bytes | Finding:
    """The content, or why there is none. `name` is how findings call the file."""
    shown = str(path) if name is None else name
    try:
        for _ in range(_TRIES):
            before = os.stat(path)
            if not stat.S_ISREG(before.st_mode):
                return make_finding(codes.FILE_NOT_REGULAR, shown, "this is not a regular file")
            if before.st_size > MAX_FILE_BYTES:
                return make_finding(codes.YAML_SIZE, shown, f"the file has {before.st_size} bytes, more than 8 MiB")
            with open(path, "rb", opener=_open) as file:
                data = file.read(MAX_FILE_BYTES + 1)
                after = os.fstat(file.fileno())
            if len(data) > MAX_FILE_BYTES:
                return make_finding(codes.YAML_SIZE, shown, "the file has more than 8 MiB")
            # A writer that does not replace files atomically may be in the middle: look again.
            if _same(before, after) and len(data) == after.st_size:
                break
    except OSError as problem:
        return make_finding(codes.FILE_UNREADABLE, shown, f"cannot be read: {problem.strerror or problem}")
    return data


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_ino, one.st_size, one.st_mtime_ns) == (other.st_ino, other.st_size, other.st_mtime_ns)
