"""The few system calls of namespaces and mounts that Python 3.11 does not offer, and threads that live inside.

Namespaces belong to threads: `inside()` runs a function in a fresh thread that has entered a network namespace (and,
if asked, has its own mounts), so the caller never leaves its own. Programs started from that thread stay inside.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(name: str, path: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", path)


def setns(path: Path, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into the namespace that `path` stands for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", str(path), descriptor, kind)
    finally:
        os.close(descriptor)


def unshare(flags: int) -> None:
    _call("unshare", "", flags)


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    arguments = [ctypes.c_char_p(text.encode() or None) for text in (source, str(target), kind)]
    _call("mount", str(target), *arguments, ctypes.c_ulong(flags), ctypes.c_char_p(data.encode() or None))


def unmount(target: Path) -> None:
    """Lazily: a busy mount goes when its last user does."""
    _call("umount2", str(target), ctypes.c_char_p(str(target).encode()), MNT_DETACH)


def set_hostname(name: str) -> None:
    encoded = name.encode()[:63]
    _call("sethostname", name, ctypes.c_char_p(encoded), ctypes.c_size_t(len(encoded)))


def mount_points() -> list[Path]:
    """Every mount of this mount namespace, in the order they were made."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and hand on what it returns or raises."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # raised again in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=body, name="lab-inside")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
