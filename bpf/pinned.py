"""The maps as they are pinned, read without loading anything: what the kernel enforces, with or without an agent."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_uint32
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from bpf.addresses import Address, Network, unpack_address, unpack_network
from bpf.errors import PinError
from bpf.loader import open_pinned
from bpf.maps import BpfMap, PerCpuArray, PolicyMaps
from bpf.names import NamesMap, boottime
from bpf.reasons import DropReason
from bpf.structs import Address as RawAddress
from bpf.structs import CtValue, Endpoint, IpcacheKey, Metric, PolicyKey, PolicyValue, Tuple
from bpf.tables import EndpointFlag, RowVerdict

_COARSE_SHIFT: Final = 30  # ct's clock counts 2^30 ns


class FlowFlag(IntFlag):
    """enum ct_flag of include/penstock.h."""

    INITIATOR_HIGH = 1
    UPSTREAM = 2
    MIDSTREAM = 4
    REPLIED = 8
    FIN_LOW = 16
    FIN_HIGH = 32
    CLOSED = 64
    PROXIED = 128
    SERVICE = 256
    ELSEWHERE = 512


@dataclass(frozen=True, slots=True)
class PinnedEndpoint:
    """One address of a local endpoint."""

    address: Address
    id: int
    identity: int
    policy_id: int
    ifindex: int
    flags: EndpointFlag


@dataclass(frozen=True, slots=True)
class PinnedRow:
    """One row of a policy: `protocol` 0 is any, `port_bits` of `port` count."""

    identity: int
    direction: int
    protocol: int
    port: int
    port_bits: int
    verdict: RowVerdict
    rule: int
    audited: int

    @property
    def ports(self) -> tuple[int, int]:
        return self.port, self.port | (0xFFFF >> self.port_bits)


@dataclass(frozen=True, slots=True)
class PinnedFlow:
    """One entry of `ct`, from who began it to who did not. `idle_s` is as coarse as the programs' clock: a second.

    `verdict` > 0: with the proxy, 0: passes, < 0: the negated drop reason. `epoch`: of the policy it was judged by.
    """

    protocol: int
    source: Address
    source_port: int
    destination: Address
    destination_port: int
    flags: FlowFlag
    verdict: int
    epoch: int
    idle_s: float
    rules: tuple[int, int]
    origin: int


@dataclass(frozen=True, slots=True)
class PinnedName:
    """An address that is open for an endpoint by a group of names. `left_s` is negative when its time is over."""

    endpoint: int
    address: Address
    identity: int
    left_s: int


@dataclass(frozen=True, slots=True)
class Count:
    """`reason` 0: forwarded. `direction`: 0 ingress, 1 egress."""

    reason: int
    direction: int
    packets: int
    bytes: int


class PinnedMaps:
    """`with pinned_maps(directory) as maps:`; each method reads what is there now."""

    def __init__(self, fds: Mapping[str, int]) -> None:
        self._fds = fds

    def endpoints(self) -> list[PinnedEndpoint]:
        found = BpfMap("endpoints", self._fds["endpoints"], RawAddress, Endpoint).items()
        return sorted(
            (
                PinnedEndpoint(
                    unpack_address(bytes(key)), v.id, v.identity, v.policy_id, v.ifindex, EndpointFlag(v.flags)
                )
                for key, v in found
            ),
            key=lambda one: (one.id, one.address.version, int(one.address)),
        )

    def ipcache(self) -> list[tuple[Network, int]]:
        found = BpfMap("ipcache", self._fds["ipcache"], IpcacheKey, c_uint32).items()
        prefixes = [(unpack_network(key.prefix, bytes(key)[4:]), value.value) for key, value in found]
        return sorted(prefixes, key=lambda one: (one[0].version, int(one[0].network_address), one[0].prefixlen))

    def policy(self, policy_id: int) -> list[PinnedRow]:
        rows = PolicyMaps(self._fds["policy"], 0).read(policy_id)
        return sorted(
            (_row(PolicyKey.from_buffer_copy(key), PolicyValue.from_buffer_copy(value)) for key, value in rows.items()),
            key=lambda row: (row.direction, row.identity, row.protocol, row.port, row.port_bits),
        )

    def flows(self) -> list[PinnedFlow]:
        now = _coarse_now()
        found = BpfMap("ct", self._fds["ct"], Tuple, CtValue).items()
        return [_flow(key, value, now) for key, value in found]

    def names(self) -> list[PinnedName]:
        now = boottime()
        found = (
            PinnedName(endpoint, ip_address(address), slot.identity, slot.until - now)
            for endpoint, address, slots in NamesMap(self._fds["names"], -1).items()
            for slot in slots
        )
        return sorted(found, key=lambda one: (one.endpoint, one.address.version, int(one.address), one.identity))

    def metrics(self) -> list[Count]:
        return read_counts(self._fds["metrics"])


def read_counts(fd: int) -> list[Count]:
    """What the map `metrics` has counted; nothing is no entry."""
    metrics = PerCpuArray("metrics", fd, Metric)
    counts = []
    for reason in (0, *map(int, DropReason)):
        for direction in (0, 1):
            values = metrics.get(reason * 2 + direction)
            packets = sum(value.packets for value in values)
            if packets:
                counts.append(Count(reason, direction, packets, sum(value.bytes for value in values)))
    return counts


@contextmanager
def pinned_maps(pin_dir: Path) -> Iterator[PinnedMaps]:
    """Raises PinError if nothing is pinned there."""
    names = ("endpoints", "ipcache", "names", "policy", "ct", "metrics")
    fds: dict[str, int] = {}
    try:
        for name in names:
            try:
                fd = open_pinned(pin_dir / "maps" / name)
            except PermissionError as error:
                raise PinError(f"{pin_dir}: {error.strerror}") from error
            if fd is None:
                raise PinError(f"nothing is pinned below {pin_dir}: no agent has run here, or `penstock cleanup` has")
            fds[name] = fd
        yield PinnedMaps(fds)
    finally:
        for fd in fds.values():
            os.close(fd)


def _row(key: PolicyKey, value: PolicyValue) -> PinnedRow:
    bits = max(0, key.prefix - 48)
    port = int.from_bytes(bytes(key.port), "big")
    return PinnedRow(
        key.identity, key.direction, key.protocol, port, bits, RowVerdict(value.verdict), value.rule, value.audited
    )


def _flow(key: Tuple, value: CtValue, now: int) -> PinnedFlow:
    ends = [
        (unpack_address(bytes(address)), int.from_bytes(bytes(port), "big"))
        for address, port in ((key.source, key.source_port), (key.destination, key.destination_port))
    ]
    flags = FlowFlag(value.flags)
    (source, source_port), (destination, destination_port) = ends[::-1] if flags & FlowFlag.INITIATOR_HIGH else ends
    return PinnedFlow(
        protocol=key.protocol,
        source=source,
        source_port=source_port,
        destination=destination,
        destination_port=destination_port,
        flags=flags,
        verdict=value.verdict,
        epoch=value.epoch,
        idle_s=((now - value.last_seen) & 0xFFFFFFFF) * 2**_COARSE_SHIFT / 1e9,
        rules=tuple(value.rule),
        origin=value.origin,
    )


def _coarse_now() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> _COARSE_SHIFT
