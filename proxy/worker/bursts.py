"""Many datagrams with one system call: sendmmsg(2), which Python's sockets do not have. recvmmsg(2) would gain nothing.

The headers that the kernel wants are made once, with addresses of places that stay where they are. What differs from
datagram to datagram lies in its slot in one piece, so that one assignment writes it:

    address of the data | its length | name, control data | data
    └── struct iovec, written from here on ─────────────────────▶

Layouts are those of Linux with 64 bits (`struct mmsghdr`).
"""

from __future__ import annotations

import ctypes
import struct
from time import monotonic_ns
from typing import Final

MOST: Final = 64
"""Datagrams with one call."""

FEW: Final = 4
"""Fewer are as cheap one by one."""

MAX_BYTES: Final = 1500
"""Of a datagram that is sent in this way."""

_BUSY_NS: Final = 30_000
_NAME_BYTES: Final = 32
_ENVELOPE: Final = struct.Struct(f"{_NAME_BYTES}s64s")  # name, control data
_CONTROL_HEADER: Final = struct.Struct("@Nii")  # length, level, type
_HEADER: Final = struct.Struct("@PI4xPNPNi4xI4x")
_VECTOR: Final = struct.Struct("@PN")
_SIZE: Final = struct.Struct("@N")

_libc = ctypes.CDLL(None, use_errno=True)


class Pace:
    """Do datagrams come so fast that one should look for more than one at a time? Asking in vain costs, too."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended = 0

    def begin(self) -> int:
        """How many to look for: more than one if hardly anything has been waited for."""
        return MOST if monotonic_ns() - self._ended < _BUSY_NS else 1

    def end(self) -> None:
        """All that was found has been worked on."""
        self._ended = monotonic_ns()


class Burst:
    """Datagrams that go together. Each has a name (a `sockaddr`) and control data of these sizes; 0, 0: no envelope."""

    def __init__(self, name_bytes: int = 0, control_bytes: int = 0) -> None:
        before_data = _VECTOR.size + (_ENVELOPE.size if name_bytes else 0)
        self._stride = before_data + MAX_BYTES + -(before_data + MAX_BYTES) % _VECTOR.size
        slots = ctypes.create_string_buffer(MOST * self._stride)
        self._slots = memoryview(slots).cast("B")
        self._headers = ctypes.create_string_buffer(MOST * _HEADER.size)
        for slot in range(MOST):
            vector = ctypes.addressof(slots) + slot * self._stride
            _VECTOR.pack_into(slots, slot * self._stride, vector + before_data, 0)
            name = vector + _VECTOR.size if name_bytes else 0
            control = name + _NAME_BYTES if name_bytes else 0
            header = (name, name_bytes, vector, 1, control, control_bytes, 0, 0)
            _HEADER.pack_into(self._headers, slot * _HEADER.size, *header)

    def put(self, slot: int, data: bytes, envelope: bytes = b"") -> None:
        """In one of the slots 0 … `MOST` - 1. `data` has at most `MAX_BYTES`; `envelope`: where there is one."""
        written = _SIZE.pack(len(data)) + envelope + data
        at = slot * self._stride + _SIZE.size
        self._slots[at : at + len(written)] = written

    def send(self, fd: int, count: int) -> list[tuple[int, int]]:
        """The first `count` of them. Returns (slot, error number) of those that the kernel did not take."""
        refused: list[tuple[int, int]] = []
        done, start = 0, ctypes.addressof(self._headers)
        while done < count:
            sent = _libc.sendmmsg(fd, ctypes.c_void_p(start + done * _HEADER.size), count - done, 0)
            if sent <= 0:
                # It is about the first of those that were left.
                refused.append((done, ctypes.get_errno()))
                sent = 1
            done += sent
        return refused


def envelope(name: bytes, control: bytes) -> bytes:
    """Whom a datagram is for, a `sockaddr`, and its control message, as `Burst.put` takes them."""
    return _ENVELOPE.pack(name, control)


def control_data(level: int, kind: int, data: bytes) -> bytes:
    """One control message as the kernel wants it, with what aligns the next."""
    length = _CONTROL_HEADER.size + len(data)
    return _CONTROL_HEADER.pack(length, level, kind) + data + bytes(-length % _SIZE.size)
