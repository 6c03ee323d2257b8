"""Reads the `events` ring: drops, first packets of flows, audit verdicts.

The reader's descriptor is pollable (asyncio `add_reader`); `read` never blocks.
"""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from bpf.addresses import Address, unpack_address
from bpf.errors import MapError
from bpf.libbpf import SAMPLE, check, library
from bpf.structs import Event as RawEvent


class EventType(IntEnum):
    """Numbers as in Cilium's monitor."""

    DROP = 1
    VERDICT = 5


_AUDIT: Final = 1


@dataclass(frozen=True, slots=True)
class PacketEvent:
    """One packet and what became of it.

    `verdict` > 0: handed to the proxy, 0: passed, < 0: the negated drop reason. With `audited` the packet passed in
    spite of a negative verdict. `direction` is the one that decided (0 ingress, 1 egress). `rules` are the rule ids by
    direction, 0 = none. `source` and `destination` are None if the frame is not IP.
    """

    time_ns: int
    type: EventType
    verdict: int
    audited: bool
    direction: int
    source: Address | None
    destination: Address | None
    source_port: int
    destination_port: int
    protocol: int
    tcp_flags: int
    icmp_type: int
    icmp_code: int
    source_endpoint: int
    destination_endpoint: int
    source_identity: int
    destination_identity: int
    rules: tuple[int, int]
    ifindex: int
    length: int

    @property
    def reason(self) -> int:
        """The drop reason, 0 if there is none."""
        return max(0, -self.verdict)


def decode(data: bytes) -> PacketEvent:
    raw = RawEvent.from_buffer_copy(data)
    tuple_ = raw.tuple
    is_ip = raw.family != 0
    return PacketEvent(
        time_ns=raw.time_ns,
        type=EventType(raw.type),
        verdict=raw.verdict,
        audited=bool(raw.flags & _AUDIT),
        direction=raw.direction,
        source=unpack_address(bytes(tuple_.source)) if is_ip else None,
        destination=unpack_address(bytes(tuple_.destination)) if is_ip else None,
        source_port=int.from_bytes(bytes(tuple_.source_port), "big"),
        destination_port=int.from_bytes(bytes(tuple_.destination_port), "big"),
        protocol=tuple_.protocol,
        tcp_flags=raw.tcp_flags,
        icmp_type=raw.icmp_type,
        icmp_code=raw.icmp_code,
        source_endpoint=raw.source_endpoint,
        destination_endpoint=raw.destination_endpoint,
        source_identity=raw.source_identity,
        destination_identity=raw.destination_identity,
        rules=(raw.rule[0], raw.rule[1]),
        ifindex=raw.ifindex,
        length=raw.length,
    )


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
        """Becomes readable when there are events."""
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
