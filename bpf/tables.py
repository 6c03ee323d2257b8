"""The kernel's policy tables as one desired state, and how to get there without a gap.

Order: prefixes and new policies first, then the endpoints that refer to them, then what is gone, then the epoch, which
makes every live flow be judged again, and only then the policies nobody refers to any more. A state that is already
in force changes nothing, not even the epoch. What is in force is read back from the maps at the start, so an agent
that adopts them goes on where the last one stopped, also if that was in the middle.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from ctypes import c_uint32
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from bpf.addresses import Address, Network, pack_address, pack_network
from bpf.maps import BpfMap, PolicyMaps
from bpf.structs import Address as RawAddress
from bpf.structs import Config, Endpoint, IpcacheKey, PolicyKey, PolicyValue, address_bytes, port_bytes

_ANY_PROTOCOL: Final = 40  # prefix bits: identity 32 + direction 8
_ANY_PORT: Final = 48
_SYS_MEMBARRIER: Final = {"x86_64": 324, "aarch64": 283}
_MEMBARRIER_GLOBAL: Final = 1


class RowVerdict(IntEnum):
    """In order of strength."""

    ALLOW = 1
    REDIRECT = 2
    DENY = 3


class EndpointFlag(IntFlag):
    ENFORCE_INGRESS = 1
    ENFORCE_EGRESS = 2
    AUDIT = 4


class RowKey(NamedTuple):
    """`identity` 0 is any; protocol 0 is any; `port_bits` of `port` count, 0 is any port."""

    identity: int
    direction: int
    protocol: int
    port: int
    port_bits: int

    @property
    def prefix(self) -> int:
        return _ANY_PORT + self.port_bits if self.protocol else _ANY_PROTOCOL


class Row(NamedTuple):
    verdict: RowVerdict
    rule: int


Policy = Mapping[RowKey, Row]


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """An endpoint of this node; `ifindex` 0 while its interface is missing."""

    id: int
    identity: int
    flags: EndpointFlag
    ifindex: int
    policy: Policy = field(hash=False)


@dataclass(frozen=True, slots=True)
class DesiredState:
    endpoints: Mapping[Address, LocalEndpoint] = field(default_factory=dict)
    ipcache: Mapping[Network, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """How many entries were written or removed, and the epoch that is now in force."""

    ipcache: int
    policies: int
    endpoints: int
    epoch: int

    @property
    def any(self) -> bool:
        return bool(self.ipcache or self.policies or self.endpoints)


def encode_rows(policy: Policy) -> dict[bytes, bytes]:
    """Key bytes → value bytes of the policy's trie."""
    rows = {}
    for key, row in policy.items():
        # Bits beyond the prefix are zero, or the same prefix would have many spellings.
        port = key.port >> (16 - key.port_bits) << (16 - key.port_bits) if key.protocol else 0
        raw = PolicyKey(
            prefix=key.prefix,
            identity=key.identity,
            direction=key.direction,
            protocol=key.protocol,
            port=port_bytes(port),
        )
        rows[bytes(raw)] = bytes(PolicyValue(rule=row.rule, verdict=int(row.verdict), prefix=key.prefix))
    return rows


class Tables:
    """Maps `endpoints`, `endpoints_by_if`, `ipcache`, `policy` and the epoch in `config`."""

    def __init__(self, fds: Mapping[str, int], policy_entries: int) -> None:
        self.config = BpfMap("config", fds["config"], c_uint32, Config)
        self._endpoints = BpfMap("endpoints", fds["endpoints"], RawAddress, Endpoint)
        self._by_interface = BpfMap("endpoints_by_if", fds["endpoints_by_if"], c_uint32, c_uint32)
        self._ipcache = BpfMap("ipcache", fds["ipcache"], IpcacheKey, c_uint32)
        self._policies = PolicyMaps(fds["policy"], policy_entries)
        self._endpoint_values = {bytes(key): bytes(value) for key, value in self._endpoints.items()}
        self._interface_values = {key.value: value.value for key, value in self._by_interface.items()}
        self._ipcache_values = {bytes(key): value.value for key, value in self._ipcache.items()}
        self._policy_rows = {number: self._policies.read(number) for number in self._policies.ids()}

    def read_config(self) -> Config:
        return self.config.get(c_uint32(0)) or Config()

    def update_config(self, **values: int) -> None:
        """Set members of `config`; the others stay."""
        config = self.read_config()
        for name, value in values.items():
            setattr(config, name, value)
        self.config.set(c_uint32(0), config)

    def interfaces(self) -> dict[int, int]:
        """Interface index → endpoint id, as in force."""
        return dict(self._interface_values)

    def sizes(self) -> dict[str, int]:
        """Entries in force, by map."""
        return {
            "endpoints": len(self._endpoint_values),
            "endpoints_by_if": len(self._interface_values),
            "ipcache": len(self._ipcache_values),
            "policy": len(self._policy_rows),
            "policy rows": sum(len(rows) for rows in list(self._policy_rows.values())),
        }

    def apply(self, state: DesiredState) -> Changes:
        """Bring the maps to this state."""
        ipcache = self._wanted_ipcache(state)
        ipcache_changes = self._add_prefixes(ipcache)
        numbers, new_policies = self._place_policies(state)
        endpoints, interfaces = self._wanted_endpoints(state, numbers)
        endpoint_changes = self._set_endpoints(endpoints, interfaces)
        ipcache_changes += self._remove_prefixes(ipcache)
        unused = [number for number in self._policy_rows if number not in numbers.values()]
        epoch = self.read_config().epoch
        if epoch == 0 or ipcache_changes or endpoint_changes or new_policies or unused:
            epoch = max(1, (epoch + 1) & 0xFFFFFFFF)  # 0 is never in force: programs use it for "not judged yet"
            self.update_config(epoch=epoch)
        if unused:
            _wait_for_programs()
            for number in unused:
                self._policies.delete(number)
                del self._policy_rows[number]
        return Changes(ipcache_changes, new_policies + len(unused), endpoint_changes, epoch)

    @staticmethod
    def _wanted_ipcache(state: DesiredState) -> dict[bytes, int]:
        wanted = {}
        for network, identity in state.ipcache.items():
            prefix, address = pack_network(network)
            wanted[bytes(IpcacheKey(prefix=prefix, address=address_bytes(address)))] = identity
        return wanted

    def _add_prefixes(self, wanted: Mapping[bytes, int]) -> int:
        changed = 0
        for key, identity in wanted.items():
            if self._ipcache_values.get(key) != identity:
                self._ipcache.set(IpcacheKey.from_buffer_copy(key), c_uint32(identity))
                self._ipcache_values[key] = identity
                changed += 1
        return changed

    def _remove_prefixes(self, wanted: Mapping[bytes, int]) -> int:
        stale = [key for key in self._ipcache_values if key not in wanted]
        for key in stale:
            self._ipcache.delete(IpcacheKey.from_buffer_copy(key))
            del self._ipcache_values[key]
        return len(stale)

    def _place_policies(self, state: DesiredState) -> tuple[dict[int, int], int]:
        """Policy object → number of the trie that holds its rows, written if there is none yet; how many were."""
        by_rows = {frozenset(rows.items()): number for number, rows in self._policy_rows.items()}
        numbers: dict[int, int] = {}
        written = 0
        for endpoint in state.endpoints.values():
            if id(endpoint.policy) in numbers:
                continue
            rows = encode_rows(endpoint.policy)
            content = frozenset(rows.items())
            if content not in by_rows:
                number = max(self._policy_rows, default=0) + 1
                self._policies.write(number, rows)
                self._policy_rows[number] = rows
                by_rows[content] = number
                written += 1
            numbers[id(endpoint.policy)] = by_rows[content]
        return numbers, written

    @staticmethod
    def _wanted_endpoints(state: DesiredState, numbers: Mapping[int, int]) -> tuple[dict[bytes, bytes], dict[int, int]]:
        endpoints: dict[bytes, bytes] = {}
        interfaces: dict[int, int] = {}
        for address, endpoint in state.endpoints.items():
            value = Endpoint(
                id=endpoint.id,
                identity=endpoint.identity,
                policy_id=numbers[id(endpoint.policy)],
                ifindex=endpoint.ifindex,
                flags=int(endpoint.flags),
            )
            endpoints[pack_address(address)] = bytes(value)
            if endpoint.ifindex:
                interfaces[endpoint.ifindex] = endpoint.id
        return endpoints, interfaces

    def _set_endpoints(self, endpoints: Mapping[bytes, bytes], interfaces: Mapping[int, int]) -> int:
        changed = 0
        for key, value in endpoints.items():
            if self._endpoint_values.get(key) != value:
                self._endpoints.set(RawAddress.from_buffer_copy(key), Endpoint.from_buffer_copy(value))
                self._endpoint_values[key] = value
                changed += 1
        for ifindex, number in interfaces.items():
            if self._interface_values.get(ifindex) != number:
                self._by_interface.set(c_uint32(ifindex), c_uint32(number))
                self._interface_values[ifindex] = number
                changed += 1
        for ifindex in [index for index in self._interface_values if index not in interfaces]:
            self._by_interface.delete(c_uint32(ifindex))
            del self._interface_values[ifindex]
            changed += 1
        for key in [key for key in self._endpoint_values if key not in endpoints]:
            self._endpoints.delete(RawAddress.from_buffer_copy(key))
            del self._endpoint_values[key]
            changed += 1
        return changed


def _wait_for_programs() -> None:
    """Until every program run that may still hold an old policy's number is over: membarrier(2) waits for RCU."""
    number = _SYS_MEMBARRIER.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _MEMBARRIER_GLOBAL, 0)
