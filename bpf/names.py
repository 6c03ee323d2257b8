"""The map `names`: which addresses outside an endpoint's DNS answers have opened for it.

Workers write it before an answer leaves, the agent when time is up or the policy changes. Each entry is read, changed
and written back, so they exclude each other by a POSIX lock on a descriptor that they share: it is let go by the kernel
when its process ends. Within one process, one thread at a time.

    (endpoint, address)  ->  up to 8 x (identity of a group of names, until when)
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from bpf.errors import MapFull
from bpf.maps import BpfMap
from bpf.structs import NamesKey, NamesValue

MAX_SLOTS: Final = 8
_MAPPED: Final = bytes(10) + b"\xff\xff"
_NUMBERS: Final = struct.Struct(f"={2 * MAX_SLOTS}I")
_LOCK: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
_RETRY_S: Final = 0.0002
_COUNT: Final = struct.Struct("=Q")


class NameSlot(NamedTuple):
    """`until`: seconds of CLOCK_BOOTTIME."""

    identity: int
    until: int


Slots = tuple[NameSlot, ...]


def boottime() -> int:
    """Now, as `until` counts."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def make_lock() -> int:
    """A descriptor for all processes that write the map. Close-on-exec: pass it on explicitly.

    The memory behind it counts how often addresses were closed before their time.
    """
    fd = os.memfd_create("penstock-names", os.MFD_CLOEXEC)
    os.ftruncate(fd, _COUNT.size)
    return fd


class NamesMap:
    """`names` by descriptor. Addresses are packed, of 4 or 16 bytes."""

    def __init__(self, fd: int, lock_fd: int) -> None:
        self._map = BpfMap("names", fd, NamesKey, NamesValue)
        self._lock_fd = lock_fd
        self._shared = memoryview(mmap.mmap(lock_fd, _COUNT.size)).cast("Q")

    @property
    def cuts(self) -> int:
        """Other than at the last look: what was open then may have been closed before its time."""
        return self._shared[0]

    def cut(self) -> None:
        """Tell all processes. One of them only may."""
        self._shared[0] += 1

    def get(self, endpoint: int, address: bytes) -> Slots:
        """Empty if nothing has opened it."""
        return _slots(self._map.get_raw(_key(endpoint, address)))

    def open(
        self, endpoint: int, addresses: Iterable[bytes], identities: Iterable[int], until: int, wait_s: float
    ) -> None:
        """Open the addresses for the groups of names, or keep them open until then.

        Raises TimeoutError when others hold the lock for `wait_s`, MapFull when the map or an address has no room.
        """
        wanted = tuple(identities)
        self._lock(wait_s)
        try:
            for address in addresses:
                key = _key(endpoint, address)
                known = _slots(self._map.get_raw(key))
                slots = _prolonged(known, wanted, until)
                if slots != known:
                    self._map.set_raw(key, _value(slots))
        finally:
            self._unlock()

    def change(self, endpoint: int, address: bytes, edit: Callable[[Slots], Iterable[NameSlot]], wait_s: float) -> None:
        """Put what `edit` makes of the slots in their place; none: the address is closed. Raises as `open` does."""
        key = _key(endpoint, address)
        self._lock(wait_s)
        try:
            known = _slots(self._map.get_raw(key))
            slots = tuple(edit(known))
            if slots == known:
                return
            if slots:
                self._map.set_raw(key, _value(slots))
            else:
                self._map.delete(NamesKey.from_buffer_copy(key))
        finally:
            self._unlock()

    def items(self) -> Iterator[tuple[int, bytes, Slots]]:
        """(endpoint, address, slots) of every entry, as far as they stay while this looks at them."""
        for key, value in self._map.raw_items():
            yield int.from_bytes(key[:4], sys.byteorder), _unmapped(key[4:]), _slots(value)

    def _lock(self, wait_s: float) -> None:
        deadline = 0.0
        while True:
            try:
                fcntl.lockf(self._lock_fd, _LOCK)
                return
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
            now = time.monotonic()
            deadline = deadline or now + wait_s
            if now >= deadline:
                raise TimeoutError("the map of names is locked by another process")
            time.sleep(_RETRY_S)

    def _unlock(self) -> None:
        fcntl.lockf(self._lock_fd, fcntl.LOCK_UN)


def _prolonged(known: Slots, wanted: tuple[int, ...], until: int) -> Slots:
    slots = {slot.identity: slot.until for slot in known}
    for identity in wanted:
        slots[identity] = max(until, slots.get(identity, 0))
    if len(slots) > MAX_SLOTS:
        now = boottime()
        over = sorted((end, identity) for identity, end in slots.items() if end < now and identity not in wanted)
        for _, identity in over[: len(slots) - MAX_SLOTS]:
            del slots[identity]
    if len(slots) > MAX_SLOTS:
        raise MapFull("names", "update", errno.E2BIG, f"an address is named by more than {MAX_SLOTS} entries of rules")
    return tuple(NameSlot(identity, end) for identity, end in slots.items())


def mapped(address: bytes) -> bytes:
    """16 bytes, IPv4 as ::ffff:a.b.c.d."""
    return _MAPPED + address if len(address) == 4 else address


def _unmapped(address: bytes) -> bytes:
    return address[12:] if address.startswith(_MAPPED) else address


def _key(endpoint: int, address: bytes) -> bytes:
    """A `NamesKey`."""
    return endpoint.to_bytes(4, sys.byteorder) + mapped(address)


def _slots(value: bytes | None) -> Slots:
    """Of a `NamesValue`. What is not used in it is zero, and behind what is."""
    if value is None:
        return ()
    numbers = _NUMBERS.unpack(value)
    return tuple([NameSlot(*numbers[at : at + 2]) for at in range(0, len(numbers), 2) if numbers[at]])


def _value(slots: Slots) -> bytes:
    """A `NamesValue`."""
    numbers = [min(number, 0xFFFFFFFF) for slot in slots for number in slot]
    return _NUMBERS.pack(*numbers, *([0] * (2 * MAX_SLOTS - len(numbers))))
