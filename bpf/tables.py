"""The kernel's policy tables as one desired state, and how to get there without a gap.

Order: prefixes and new policies first, then the endpoints that refer to them, then what is gone, then the epoch, which
makes every live flow be judged again, and only then the policies nobody refers to any more. A state that is already
in force changes nothing, not even the epoch.

States are values, never changed once made: what is the same object as in the last state is known to be in force, so
that a change costs what changed. At the start, and after a change that failed, what is in force is read back from the
maps. A change that was broken off, be it with the agent, is marked in `config`, and its epoch is made up for.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import platform
import struct
from collections.abc import Mapping, Sequence
from ctypes import c_uint32
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from ipaddress import IPv4Network
from typing import Final, Generic, NamedTuple, TypeVar

from bpf.addresses import Address, Network, is_mapped, pack_address, pack_network, unpack_network
from bpf.errors import MapError
from bpf.maps import BpfMap, PolicyMaps
from bpf.structs import Address as RawAddress
from bpf.structs import Config, Endpoint, Interface, IpcacheKey, PolicyKey, PolicyValue, address_bytes, port_bytes

_ANY_PROTOCOL: Final = 40  # prefix bits: identity 32 + direction 8
_ANY_PORT: Final = 48
_SYS_MEMBARRIER: Final = {"x86_64": 324, "aarch64": 283}
_MEMBARRIER_GLOBAL: Final = 1

# Always there, for IPv4 addresses lie inside short IPv6 prefixes: ::/8 must not give them its identity.
_ANY_IPV4: Final = IPv4Network("0.0.0.0/0")
_WORLD_IPV4: Final = 9

HOST_IDENTITY: Final = 1
SERVICE_IDENTITY: Final = 0xFFFFFF  # of no endpoint: addresses that the node translates


class RowVerdict(IntEnum):
    """In order of strength. NONE: only deny rules that are tried out cover the row."""

    NONE = 0
    ALLOW = 1
    REDIRECT = 2
    DENY = 3


class EndpointFlag(IntFlag):
    """AUDIT: nothing is refused, only reported. TRY: that holds for the direction's default deny. NAMES: it has rules
    about DNS names, so what answers have opened counts.
    """

    ENFORCE_INGRESS = 1
    ENFORCE_EGRESS = 2
    AUDIT = 4
    TRY_INGRESS = 8
    TRY_EGRESS = 16
    NAMES = 32


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
    """`audited`: the id of a deny rule that is only tried out and covers the row, 0 if there is none."""

    verdict: RowVerdict
    rule: int
    audited: int = 0


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
    values: dict[tuple[Row, int], bytes] = {}  # few, of many rows
    for key, row in policy.items():
        identity, direction, protocol, port, bits = key
        # Bits beyond the prefix are zero, or the same prefix would have many spellings.
        port = port >> (16 - bits) << (16 - bits) if protocol else 0
        prefix = key.prefix
        value = values.get((row, prefix))
        if value is None:
            raw = PolicyValue(rule=row.rule, audited=row.audited, verdict=int(row.verdict), prefix=prefix)
            value = values[row, prefix] = bytes(raw)
        rows[bytes(PolicyKey(prefix, identity, direction, protocol, port_bytes(port)))] = value
    return rows


Rows = Mapping[bytes, bytes]
K = TypeVar("K")
V = TypeVar("V")


class _Trie(NamedTuple):
    """Rows of a policy that is in force: a digest of them, and how many there are."""

    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class _InForce:
    """What the maps hold: endpoints as they are there, by address and by id, policies by the number of their trie.

    `state` is what it was made from; `numbers`: id of a policy object in `state` → number of its trie. Both are empty
    if it was read back.
    """

    endpoints: Mapping[bytes, bytes]
    ids: Mapping[bytes, bytes]
    interfaces: Mapping[int, bytes]
    prefixes: Mapping[Network, int]
    tries: Mapping[int, _Trie]
    state: DesiredState = field(default_factory=DesiredState)
    numbers: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Difference(Generic[K, V]):
    wanted: Mapping[K, V]
    stale: Sequence[K] = ()

    def __len__(self) -> int:
        return len(self.wanted) + len(self.stale)


@dataclass(frozen=True, slots=True)
class _Plan:
    """From what is in force to `after`."""

    prefixes: _Difference[Network, int]
    policies: _Difference[int, Rows]
    endpoints: _Difference[bytes, bytes]
    ids: _Difference[bytes, bytes]
    interfaces: _Difference[int, bytes]
    after: _InForce

    @property
    def changes_anything(self) -> bool:
        return any((self.prefixes, self.policies, self.endpoints, self.ids, self.interfaces))


class Tables:
    """Maps `endpoints`, `endpoints_by_id`, `endpoints_by_if`, `ipcache`, `policy` and the epoch in `config`."""

    def __init__(self, fds: Mapping[str, int], policy_entries: int) -> None:
        self.config = BpfMap("config", fds["config"], c_uint32, Config)
        self._endpoints = BpfMap("endpoints", fds["endpoints"], RawAddress, Endpoint)
        self._by_id = BpfMap("endpoints_by_id", fds["endpoints_by_id"], c_uint32, Endpoint)
        self._by_interface = BpfMap("endpoints_by_if", fds["endpoints_by_if"], c_uint32, Interface)
        self._ipcache = BpfMap("ipcache", fds["ipcache"], IpcacheKey, c_uint32)
        self._policies = PolicyMaps(fds["policy"], policy_entries)
        self._in_force = self._read_back()
        self._is_certain = True

    def read_config(self) -> Config:
        return self.config.get(c_uint32(0)) or Config()

    def update_config(self, **values: int) -> None:
        """Set members of `config`; the others stay."""
        config = self.read_config()
        for name, value in values.items():
            setattr(config, name, value)
        self.config.set(c_uint32(0), config)

    def next_epoch(self) -> int:
        """The epoch that is in force from now on. Flows that were judged before it are judged anew."""
        epoch = _after(self.read_config().epoch)
        self.update_config(epoch=epoch)
        return epoch

    def interfaces(self) -> dict[int, int]:
        """Interface index → endpoint id, as in force."""
        found = self._in_force.interfaces.items()
        return {ifindex: Interface.from_buffer_copy(value).id for ifindex, value in found}

    def sizes(self) -> dict[str, int]:
        """Entries in force, by map."""
        in_force = self._in_force
        return {
            "endpoints": len(in_force.endpoints),
            "endpoints_by_if": len(in_force.interfaces),
            "ipcache": len(in_force.prefixes),
            "policy": len(in_force.tries),
            "policy rows": sum(trie.size for trie in in_force.tries.values()),
        }

    def apply(self, state: DesiredState) -> Changes:
        """Bring the maps to this state. If that fails half-way, the next time puts right whatever was written."""
        if not self._is_certain:
            self._in_force = self._read_back()
        plan = _plan(self._in_force, state)
        config = self.read_config()
        epoch = config.epoch
        if plan.changes_anything or config.changing or not epoch:
            self._is_certain = False
            self.update_config(changing=1)
            try:
                self._write(plan)
            except MapError:
                self._undo(plan, self._in_force)
                raise
            epoch = _after(epoch)
            self.update_config(epoch=epoch, changing=0)
            if plan.policies.stale:
                _wait_for_programs()
                self._policies.delete(plan.policies.stale)
        self._in_force, self._is_certain = plan.after, True
        return Changes(len(plan.prefixes), len(plan.policies), len(plan.endpoints) + len(plan.interfaces), epoch)

    def _read_back(self) -> _InForce:
        rows = {number: self._policies.read(number) for number in self._policies.ids()}
        return _InForce(
            endpoints={bytes(key): bytes(value) for key, value in self._endpoints.items()},
            ids={bytes(key): bytes(value) for key, value in self._by_id.items()},
            interfaces={key.value: bytes(value) for key, value in self._by_interface.items()},
            prefixes={unpack_network(key.prefix, bytes(key)[4:]): value.value for key, value in self._ipcache.items()},
            tries={number: _Trie(_digest(found), len(found)) for number, found in rows.items()},
        )

    def _write(self, plan: _Plan) -> None:
        prefixes = plan.prefixes.wanted.items()
        self._ipcache.set_all({_ipcache_key(network): bytes(c_uint32(identity)) for network, identity in prefixes})
        self._policies.write(plan.policies.wanted)
        self._by_id.set_all(plan.ids.wanted)
        self._endpoints.set_all(plan.endpoints.wanted)
        for ifindex, interface in plan.interfaces.wanted.items():
            self._by_interface.set(c_uint32(ifindex), Interface.from_buffer_copy(interface))
        for ifindex in plan.interfaces.stale:
            self._by_interface.delete(c_uint32(ifindex))
        self._endpoints.delete_all(plan.endpoints.stale)
        self._by_id.delete_all(plan.ids.stale)
        self._ipcache.delete_all([_ipcache_key(network) for network in plan.prefixes.stale])

    def _undo(self, plan: _Plan, before: _InForce) -> None:
        """Take back what was written, as far as possible: what never came into force must not fill the maps."""
        with contextlib.suppress(MapError):
            for values, wanted, known in (
                (self._endpoints, plan.endpoints.wanted, before.endpoints),
                (self._by_id, plan.ids.wanted, before.ids),
            ):
                values.set_all({key: known[key] for key in wanted if key in known})
                values.delete_all([key for key in wanted if key not in known])
            prefixes = plan.prefixes.wanted
            self._ipcache.delete_all([_ipcache_key(network) for network in prefixes if network not in before.prefixes])
            old = {network: before.prefixes[network] for network in prefixes if network in before.prefixes}
            self._ipcache.set_all({_ipcache_key(network): bytes(c_uint32(number)) for network, number in old.items()})
            self._policies.delete(plan.policies.wanted)


def _after(epoch: int) -> int:
    return max(1, (epoch + 1) & 0xFFFFFFFF)  # 0 is never in force: programs use it for "not judged yet"


def _plan(before: _InForce, state: DesiredState) -> _Plan:
    prefixes = before.prefixes
    if state.ipcache is not before.state.ipcache:
        prefixes = {_ANY_IPV4: _WORLD_IPV4, **state.ipcache}
    numbers, new, tries = _place_policies(before, state)
    endpoints, ids, interfaces = _encode_endpoints(state, numbers)
    unused = [number for number in before.tries if number not in tries]
    return _Plan(
        prefixes=_prefix_difference(before.prefixes, prefixes),
        policies=_Difference(new, unused),
        endpoints=_difference(before.endpoints, endpoints),
        ids=_difference(before.ids, ids),
        interfaces=_difference(before.interfaces, interfaces),
        after=_InForce(endpoints, ids, interfaces, prefixes, tries, state, numbers),
    )


def _difference(before: Mapping[K, V], after: Mapping[K, V]) -> _Difference[K, V]:
    wanted = {key: value for key, value in after.items() if before.get(key) != value}
    return _Difference(wanted, [*set(before).difference(after)])


def _prefix_difference(before: Mapping[Network, int], after: Mapping[Network, int]) -> _Difference[Network, int]:
    if before is after:
        return _Difference({})
    found = _difference(before, after)
    wanted = {network: identity for network, identity in found.wanted.items() if not is_mapped(network)}
    return _Difference(wanted, [network for network in found.stale if not is_mapped(network)])


def _place_policies(before: _InForce, state: DesiredState) -> tuple[dict[int, int], dict[int, Rows], dict[int, _Trie]]:
    """Id of a policy object → number of the trie with its rows; rows of tries that are new; every trie in use."""
    known = {trie.digest: number for number, trie in before.tries.items()}
    numbers: dict[int, int] = {}
    new: dict[int, Rows] = {}
    tries: dict[int, _Trie] = {}
    free = max(before.tries, default=0) + 1
    for policy in {id(endpoint.policy): endpoint.policy for endpoint in state.endpoints.values()}.values():
        number = before.numbers.get(id(policy))
        if number is not None:
            trie = before.tries[number]
        else:
            rows = encode_rows(policy)
            trie = _Trie(_digest(rows), len(rows))
            number = known.setdefault(trie.digest, free)
            if number == free:
                new[number] = rows
                free += 1
        numbers[id(policy)] = number
        tries[number] = trie
    return numbers, new, tries


def _encode_endpoints(
    state: DesiredState, numbers: Mapping[int, int]
) -> tuple[dict[bytes, bytes], dict[bytes, bytes], dict[int, bytes]]:
    """By address, by id, and whose interface is whose."""
    endpoints: dict[bytes, bytes] = {}
    ids: dict[bytes, bytes] = {}
    owned: dict[int, tuple[int, list[bytes]]] = {}
    for address, endpoint in state.endpoints.items():
        value = Endpoint(
            id=endpoint.id,
            identity=endpoint.identity,
            policy_id=numbers[id(endpoint.policy)],
            ifindex=endpoint.ifindex,
            flags=int(endpoint.flags),
        )
        endpoints[pack_address(address)] = ids[bytes(c_uint32(endpoint.id))] = bytes(value)
        if endpoint.ifindex:
            number, addresses = owned.get(endpoint.ifindex, (0, []))
            kept = addresses if number == endpoint.id else []
            owned[endpoint.ifindex] = endpoint.id, [*kept, pack_address(address)]
    # An endpoint with one address has it twice: an empty place would be the unspecified address.
    interfaces = {
        ifindex: struct.pack("=II16s16s", number, 0, addresses[0], addresses[:2][-1])
        for ifindex, (number, addresses) in owned.items()
    }
    return endpoints, ids, interfaces


def _ipcache_key(network: Network) -> bytes:
    prefix, address = pack_network(network)
    return bytes(IpcacheKey(prefix, address_bytes(address)))


def _digest(rows: Rows) -> bytes:
    """Equal for equal rows only; keys and values have fixed lengths."""
    return hashlib.sha256(b"".join(key + rows[key] for key in sorted(rows))).digest()


def _wait_for_programs() -> None:
    """Until every program run that may still hold an old policy's number is over: membarrier(2) waits for RCU."""
    number = _SYS_MEMBARRIER.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _MEMBARRIER_GLOBAL, 0)
