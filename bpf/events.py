"""Reads the `events` ring: drops, first packets of flows, audit verdicts.

The programs wake nobody up for one event: readers look every `READ_EVERY_S`. The descriptor, which is pollable, becomes
readable when so much is there that it should not wait. `read` never blocks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from enum import IntEnum
from typing import Final, NamedTuple

from bpf.addresses import Address, unpack_address
from bpf.errors import MapError
from bpf.libbpf import SAMPLE, check, library


class EventType(IntEnum):
    """Numbers as in Cilium's monitor."""

    DROP = 1
    VERDICT = 5


READ_EVERY_S: Final = 0.025

_AUDIT: Final = 1
# struct event of include/penstock.h in native order, which ctypes would read field by field, ten times as slow. The
# loader has compared bpf/structs.py with the object, and a test compares this with bpf/structs.py.
_EVENT: Final = struct.Struct("=Q16s16s2s2sB3xi4I2I2I7Bx")


class PacketEvent(NamedTuple):
    """One packet and what became of it.

    `verdict` > 0: handed to the proxy, 0: passed, < 0: the negated drop reason. With `audited` the packet passed in
    spite of a negative verdict. `direction` is the one that decided (0 ingress, 1 egress). `rules` are the rule ids by
    direction, 0 = none. `source` and `destination` are None if the frame is not IP. `time_ns` is CLOCK_MONOTONIC.
    """

    time_ns: int
    raw_source: bytes
    raw_destination: bytes
    raw_source_port: bytes
    raw_destination_port: bytes
    protocol: int
    verdict: int
    source_endpoint: int
    destination_endpoint: int
    source_identity: int
    destination_identity: int
    ingress_rule: int
    egress_rule: int
    ifindex: int
    length: int
    raw_type: int
    direction: int
    family: int
    flags: int
    tcp_flags: int
    icmp_type: int
    icmp_code: int

    @property
    def type(self) -> EventType:
        return EventType(self.raw_type)

    @property
    def audited(self) -> bool:
        return bool(self.flags & _AUDIT)

    @property
    def source(self) -> Address | None:
        return unpack_address(self.raw_source) if self.family else None

    @property
    def destination(self) -> Address | None:
        return unpack_address(self.raw_destination) if self.family else None

    @property
    def source_port(self) -> int:
        return int.from_bytes(self.raw_source_port, "big")

    @property
    def destination_port(self) -> int:
        return int.from_bytes(self.raw_destination_port, "big")

    @property
    def rules(self) -> tuple[int, int]:
        return self.ingress_rule, self.egress_rule

    @property
    def reason(self) -> int:
        """The drop reason, 0 if there is none."""
        return max(0, -self.verdict)


def decode(data: bytes) -> PacketEvent:
    return PacketEvent._make(_EVENT.unpack_from(data))


class EventReader:
    """The consumer of the ring; there can be only one at a time."""

    def __init__(self, fd: int) -> None:
        self._library = library()
        self._samples: list[bytes] = []
        # libbpf keeps only a pointer to the callback: it must live as long as the ring.
        self._callback = SAMPLE(self._take)
        self._ring: int | None = self._library.ring_buffer__new(fd, self._callback, None, None)
        if not self._ring:
            check(-ctypes.get_errno(), "open the ring buffer `events`")

    def _take(self, _context: int, data: int, size: int) -> int:
        self._samples.append(ctypes.string_at(data, size))
        return 0

    def fileno(self) -> int:
        """Becomes readable when there are many events."""
        return int(self._library.ring_buffer__epoll_fd(self._ring))

    def read(self) -> list[PacketEvent]:
        """Everything that is there now, oldest first."""
        result = self._library.ring_buffer__consume(self._ring)
        if result < 0:
            number = -result
            raise MapError("events", "consume", number, f"{errno.errorcode.get(number)} ({os.strerror(number)})")
        samples, self._samples = self._samples, []
        return [decode(sample) for sample in samples]

    def close(self) -> None:
        if self._ring is not None:
            self._library.ring_buffer__free(self._ring)
            self._ring = None
