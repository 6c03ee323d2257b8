"""The BPF file system that pins live in."""

from __future__ import annotations

import ctypes
import errno
import os
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

from bpf.errors import PinError

_BPF_FS_MAGIC: Final = 0xCAFE4A11
_DEFAULT_MOUNT: Final = Path("/sys/fs/bpf")


class _StatFs(ctypes.Structure):
    """struct statfs of <sys/statfs.h> on 64-bit Linux; only the type is read."""

    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_long * 31))
    f_type: int


def is_bpffs(path: Path) -> bool:
    result = _StatFs()
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), ctypes.byref(result)):
        return False
    return result.f_type & 0xFFFFFFFF == _BPF_FS_MAGIC


def _nearest(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def ensure(pin_dir: Path) -> None:
    """Make the directory, on a BPF file system; mounts one at /sys/fs/bpf if that is where it should be."""
    pin_dir = pin_dir.absolute()
    if not is_bpffs(_nearest(pin_dir)):
        if pin_dir != _DEFAULT_MOUNT and _DEFAULT_MOUNT not in pin_dir.parents:
            raise PinError(
                f"{pin_dir} is not on a BPF file system: `mount -t bpf bpf {_nearest(pin_dir)}`, "
                f"or choose a directory below {_DEFAULT_MOUNT}"
            )
        _mount_default()
    try:
        pin_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PinError(f"{pin_dir}: {error.strerror}") from error


def _mount_default() -> None:
    # Two agents may start at once; the second would cover the first one's pins with another mount.
    lock = os.open(_DEFAULT_MOUNT.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(lock, LOCK_EX)
        if is_bpffs(_DEFAULT_MOUNT):
            return
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"bpf", os.fsencode(_DEFAULT_MOUNT), b"bpf", 0, b"mode=0700"):
            number = ctypes.get_errno()
            raise PinError(
                f"cannot mount a BPF file system at {_DEFAULT_MOUNT}: "
                f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
            )
    finally:
        os.close(lock)
