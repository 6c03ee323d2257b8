"""Snapshot → kernel: the one module through which the proxy uses bpf/.

`Datapath.open` loads the programs, adopting what an earlier agent left pinned, and prepares the network namespace it is
called in. `sync` makes a snapshot the truth of the kernel. `close` leaves everything enforcing; `cleanup` takes
everything away. Calls block on netlink and system calls for milliseconds: the agent makes them off its event loop.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from ctypes import c_uint32, c_uint64
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from socket import AddressFamily
from types import TracebackType
from typing import Final, Self

from bpf import attach, loader, node, translation
from bpf.addresses import Address, Network, unpack_address
from bpf.attach import Attachments, Hook
from bpf.connections import ConnectionFacts, ConnectionTable, Redirected
from bpf.errors import AttachError, BpfError, LayoutMismatch, LoadError, MapError, PinError
from bpf.events import READ_EVERY_S, EventReader, EventType, PacketEvent
from bpf.features import Feature, probe
from bpf.links import LinkTable, fingerprint
from bpf.loader import Options
from bpf.maps import BpfMap, PerCpuArray
from bpf.marks import BOUNCE_DEVICE, MARK_FROM_PROXY
from bpf.netlink import Netlink, with_netlink
from bpf.pinned import PinnedMaps, pinned_maps
from bpf.reasons import DropReason, reason_help, reason_name, reason_text
from bpf.structs import Connection, CtValue, EventsBudget, FragmentKey, FragmentValue, Metric, Tuple
from bpf.tables import Changes, DesiredState, EndpointFlag, LocalEndpoint, Policy, Row, RowKey, RowVerdict, Tables
from config.policy.entries import EntryVerdict, policy_entries
from config.policy.resolved import Direction, Endpoint, EndpointPolicy, Snapshot

__all__ = [
    "MARK_FROM_PROXY",
    "READ_EVERY_S",
    "AttachError",
    "BpfError",
    "ConnectionFacts",
    "ConnectionTable",
    "Datapath",
    "DatapathStatus",
    "DropCount",
    "DropReason",
    "EventReader",
    "EventType",
    "Feature",
    "LayoutMismatch",
    "LoadError",
    "MapError",
    "Options",
    "PacketEvent",
    "PinError",
    "PinnedMaps",
    "Redirected",
    "SyncReport",
    "cleanup",
    "pinned_maps",
    "probe",
    "reason_help",
    "reason_name",
    "reason_text",
    "unpack_address",
]

_HOST_IDENTITY: Final = 1
_SERVICE_IDENTITY: Final = 0xFFFFFF
_MAX_WORKERS: Final = 128
_REASONS: Final = 256
_VERDICTS: Final = {
    EntryVerdict.NONE: RowVerdict.NONE,
    EntryVerdict.ALLOW: RowVerdict.ALLOW,
    EntryVerdict.REDIRECT: RowVerdict.REDIRECT,
    EntryVerdict.DENY: RowVerdict.DENY,
}


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did. `pending`: endpoint id → why its interface could not be found; it is tried again at the next."""

    revision: int
    changes: Changes
    attached: tuple[str, ...]
    detached: tuple[str, ...]
    pending: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class DropCount:
    reason: int
    direction: Direction
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DatapathStatus:
    """`forwarded`: packets by direction. `entries`: what is in the tables. `pressure`: how full maps are, in percent,
    as of the last `measure`. `events_lost`: rate limit, ring full.
    """

    adopted: bool
    revision: int
    epoch: int
    workers: int
    interfaces: Mapping[int, int]
    pending: Mapping[int, str]
    entries: Mapping[str, int]
    pressure: Mapping[str, float]
    forwarded: tuple[int, int]
    drops: tuple[DropCount, ...]
    events_lost: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Placement:
    """Where local endpoints are attached: endpoint id → interface index, or why there is none. `asked`: by what."""

    asked: Mapping[int, tuple[str, str]]
    found: Mapping[int, int]
    missing: Mapping[int, str]
    hosts: frozenset[Address]  # the node's own addresses
    ways_out: frozenset[int]  # interfaces that lead neither to a pod nor nowhere


class StateBuilder:
    """The tables of one snapshot after the other, at the cost of what changed.

    Pieces of a snapshot that are the same objects as in the last one become the same objects in the tables' state, too,
    and `Tables` knows by that what is in force already.
    """

    def __init__(self, services: Iterable[Network] = ()) -> None:
        self._services = dict.fromkeys(services, _SERVICE_IDENTITY)
        self._rows: dict[int, tuple[EndpointPolicy | None, Policy]] = {}  # by id, with what keeps the id taken
        self._prefixes: Mapping[Network, int] | None = None
        self._hosts: frozenset[Address] = frozenset()
        self._ipcache: Mapping[Network, int] = {}

    def build(
        self, snapshot: Snapshot, interfaces: Mapping[int, int], host_addresses: Iterable[Address]
    ) -> DesiredState:
        """`interfaces`: endpoint id → interface index, as far as found."""
        rows: dict[int, tuple[EndpointPolicy | None, Policy]] = {}
        endpoints: dict[Address, LocalEndpoint] = {}
        for endpoint in snapshot.endpoints.values():
            if not endpoint.is_local:
                continue
            policy = snapshot.policies.get(endpoint.id)
            key = id(policy)
            if key not in rows:
                rows[key] = self._rows.get(key) or (policy, _rows(policy) if policy is not None else {})
            local = LocalEndpoint(
                id=endpoint.id,
                identity=endpoint.identity,
                flags=_flags(endpoint, policy),
                ifindex=interfaces.get(endpoint.id, 0),
                policy=rows[key][1],
            )
            endpoints.update(dict.fromkeys(endpoint.addresses, local))
        self._rows = rows
        return DesiredState(endpoints, self._with_hosts(snapshot.ipcache, frozenset(host_addresses)))

    def _with_hosts(self, prefixes: Mapping[Network, int], hosts: frozenset[Address]) -> Mapping[Network, int]:
        if prefixes is not self._prefixes or hosts != self._hosts:
            # The node's own addresses are the host, whatever prefix of a rule covers them; and what the node translates
            # is nobody's, whatever rule names it.
            self._ipcache = {
                **self._without_services(prefixes),
                **self._services,
                **{ip_network(address): _HOST_IDENTITY for address in hosts},
            }
            self._prefixes, self._hosts = prefixes, hosts
        return self._ipcache

    def _without_services(self, prefixes: Mapping[Network, int]) -> Mapping[Network, int]:
        if not self._services:
            return prefixes
        inside = frozenset(
            network
            for network in prefixes
            if any(network.version == one.version and network.subnet_of(one) for one in self._services)  # type: ignore[arg-type]
        )
        return {network: identity for network, identity in prefixes.items() if network not in inside}


def desired_state(snapshot: Snapshot, interfaces: Mapping[int, int], host_addresses: Iterable[Address]) -> DesiredState:
    """The tables of one snapshot."""
    return StateBuilder().build(snapshot, interfaces, host_addresses)


@dataclass(slots=True)
class Datapath:
    """The programs and maps of one node."""

    adopted: bool
    events: EventReader
    _loaded: loader.LoadedObject
    _tables: Tables
    _listener_lookup: int
    _attachments: Attachments
    _services: tuple[Network, ...]
    _states: StateBuilder
    _attached: dict[int, int] = field(default_factory=dict)
    _watched: set[int] = field(default_factory=set)  # interfaces with to_world
    _placement: _Placement | None = None  # in force; None while that is not sure
    _pending: Mapping[int, str] = field(default_factory=dict)
    _fingerprint: tuple[object, ...] = ()
    _revision: int = 0
    _pressure: Mapping[str, float] = field(default_factory=dict)
    _has_table: bool = False
    _changing: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, pin_dir: Path, options: Options | None = None, services: Iterable[Network] = ()) -> Datapath:
        """Load or adopt, and prepare this network namespace. Traffic of adopted endpoints is enforced throughout.

        `services`: addresses that this node translates before it routes.
        """
        options = options or Options()
        services = tuple(services)
        loaded = loader.load(pin_dir, options)
        attachments = Attachments(pin_dir / "links")
        try:
            tables = Tables(loaded.maps, options.policy_entries)
            if loaded.replaces is not None:
                saved = _saved_early_demux(pin_dir)
                tables.update_config(saved_early_demux=saved + 1 if saved is not None else 0)
            _prepare_node(tables, attachments, loaded.programs["from_bounce"])
            if services:
                translation.ensure(())
            with_netlink(node.ensure_service_routing if services else node.remove_service_routing)
            events = EventReader(loaded.maps["events"])
            listener_lookup = attach.attach_to_listener_lookup(loaded.programs["choose_listener"])
        except BaseException:
            loaded.close()
            raise
        states = StateBuilder(services)
        opened = cls(loaded.adopted, events, loaded, tables, listener_lookup, attachments, services, states)
        opened._has_table = bool(services)
        opened._translate_if_needed()
        return opened

    @property
    def connections_fd(self) -> int:
        """The map `proxy_conns`, for the workers' `ConnectionTable`. Close-on-exec: pass it on explicitly."""
        return self._loaded.maps["proxy_conns"]

    def sync(self, snapshot: Snapshot) -> SyncReport:
        """Make the snapshot the kernel's truth. Safe to repeat, also after it failed half-way."""
        with self._changing:
            now = fingerprint()
            placement = self._placement
            if placement is None or now != self._fingerprint or _asked(snapshot) != placement.asked:
                return with_netlink(lambda ip: self._sync(ip, snapshot, now))
            # Nothing is to be found, attached or detached: no need to ask netlink.
            return SyncReport(snapshot.revision, self._apply(snapshot, placement), (), (), {})

    def interfaces_changed(self, snapshot: Snapshot) -> bool:
        """Whether syncing the snapshot again would find other interfaces or node addresses than the last sync did.

        Meant to be asked often: while nothing changes in the namespace it costs no netlink dump.
        """
        with self._changing:
            self._translate_if_needed()
            now = fingerprint()
            if now == self._fingerprint:
                return False
            placement = with_netlink(lambda ip: _place(ip, snapshot))
            in_force = {endpoint: ifindex for ifindex, endpoint in self._tables.interfaces().items()}
            known = self._placement
            if known is None or placement.found != in_force or placement.hosts != known.hosts:
                return True
            if self._services and placement.ways_out != known.ways_out:
                return True
            self._fingerprint = now
            return False

    def _translate_if_needed(self) -> None:
        """The table costs every packet a little: it is there once the node tracks connections."""
        if not self._has_table and translation.is_available() and translation.is_in_use():
            translation.ensure(None)
            self._has_table = True

    def _sync(self, ip: Netlink, snapshot: Snapshot, now: tuple[object, ...]) -> SyncReport:
        """`now`: the fingerprint from before anything was looked at."""
        self._placement, self._fingerprint = None, ()
        placement = _place(ip, snapshot)
        # What is no longer listed is detached before its entries go: else it would be cut off, not let go.
        detached = self._detach_others(ip, set(placement.found.values()))
        try:
            changes = self._apply(snapshot, placement)
        except MapError:
            # A beginning that fails closes: a program that knows no endpoint lets nothing pass. Later, and after an
            # agent whose work goes on, what is in force stays.
            if not self._tables.interfaces() and self._loaded.replaces is None:
                self._attach(ip, placement.found, snapshot)
            raise
        attached = self._attach(ip, placement.found, snapshot)
        self._watch(ip, placement)
        self._loaded.take_over()
        self._placement, self._pending = placement, placement.missing
        if not placement.missing:  # else whatever is missing may come without a change of the fingerprint
            self._fingerprint = now
        return SyncReport(snapshot.revision, changes, attached, detached, placement.missing)

    def _apply(self, snapshot: Snapshot, placement: _Placement) -> Changes:
        changes = self._tables.apply(self._states.build(snapshot, placement.found, placement.hosts))
        self._revision = snapshot.revision
        return changes

    def _attach(self, ip: Netlink, found: Mapping[int, int], snapshot: Snapshot) -> tuple[str, ...]:
        names = []
        for endpoint_id, ifindex in found.items():
            if self._attached.get(ifindex) == endpoint_id:
                continue
            # from_pod first: what leaves is checked before anything is let in.
            for hook, program in ((Hook.INGRESS, "from_pod"), (Hook.EGRESS, "to_pod")):
                self._attachments.attach(ip, ifindex, hook, program, self._loaded.programs[program])
            self._attached[ifindex] = endpoint_id
            endpoint = snapshot.endpoints[endpoint_id]
            names.append(f"{endpoint.namespace}/{endpoint.name}")
        return tuple(names)

    def _detach_others(self, ip: Netlink, wanted: set[int]) -> tuple[str, ...]:
        removed = []
        for ifindex in sorted((set(self._tables.interfaces()) | set(self._attached)) - wanted):
            self._attached.pop(ifindex, None)
            removed += [f"{program} of interface {ifindex}" for program in self._attachments.detach(ip, ifindex)]
        return tuple(removed)

    def _watch(self, ip: Netlink, placement: _Placement) -> None:
        """See to it that packets to services are judged on their way out of the node."""
        self._watched &= placement.ways_out
        if not self._services:
            for ifindex in placement.ways_out:
                self._attachments.detach(ip, ifindex)  # of an agent that had some
            return
        for ifindex in placement.ways_out - self._watched:
            self._attachments.attach(ip, ifindex, Hook.EGRESS, "to_world", self._loaded.programs["to_world"])
            self._watched.add(ifindex)
        translation.ensure({*placement.found.values(), *self._watched})
        self._has_table = True

    def set_listeners(self, listeners: Iterable[tuple[int, int, int]]) -> None:
        """(worker index, address family, descriptor of a transparent listening socket) of every worker.

        The kernel forgets a listener by itself when its last descriptor is closed; until then the map holds no
        reference that keeps it alive.
        """
        slots = {worker * 2 + (family == AddressFamily.AF_INET6): fd for worker, family, fd in listeners}
        if any(not 0 <= slot < _MAX_WORKERS * 2 for slot in slots):
            raise BpfError(f"there can be {_MAX_WORKERS} workers, numbered from 0")
        sockets = BpfMap("proxy_sockets", self._loaded.maps["proxy_sockets"], c_uint32, c_uint64)
        with self._changing:
            for slot, fd in slots.items():
                sockets.set(c_uint32(slot), c_uint64(fd))
            self._tables.update_config(workers=max(slots, default=-1) // 2 + 1)
            for slot in set(range(_MAX_WORKERS * 2)) - set(slots):
                sockets.delete_if_present(c_uint32(slot))

    def status(self) -> DatapathStatus:
        config = self._tables.read_config()
        forwarded, drops = _read_metrics(PerCpuArray("metrics", self._loaded.maps["metrics"], Metric))
        return DatapathStatus(
            adopted=self.adopted,
            revision=self._revision,
            epoch=config.epoch,
            workers=config.workers,
            interfaces=self._tables.interfaces(),
            pending=self._pending,
            entries=self._tables.sizes(),
            pressure=self._pressure,
            forwarded=forwarded,
            drops=drops,
            events_lost=self.events_lost(),
        )

    def measure(self) -> Mapping[str, float]:
        """How full each map is that can be, in percent. Looks at every flow: milliseconds, so not for every packet."""
        maps, sizes = self._loaded.maps, self._tables.sizes()
        counts = {
            "ct": BpfMap("ct", maps["ct"], Tuple, CtValue).count(),
            "proxy_conns": BpfMap("proxy_conns", maps["proxy_conns"], Tuple, Connection).count(),
            "fragments": BpfMap("fragments", maps["fragments"], FragmentKey, FragmentValue).count(),
            **{name: sizes[name] for name in ("endpoints", "endpoints_by_if", "ipcache", "policy")},
        }
        capacities = self._loaded.capacities
        self._pressure = {name: round(100 * count / capacities[name], 2) for name, count in counts.items()}
        return self._pressure

    def events_lost(self) -> tuple[int, int]:
        """Events that were never told since the maps were made: for the rate limit, for a full ring."""
        budgets = PerCpuArray("events_budget", self._loaded.maps["events_budget"], EventsBudget).get(0)
        return sum(b.rate_limited for b in budgets), sum(b.ring_full for b in budgets)

    def close(self) -> None:
        """Let go of descriptors. Everything stays pinned, attached and enforcing."""
        if self._listener_lookup >= 0:
            os.close(self._listener_lookup)
            self._listener_lookup = -1
        self.events.close()
        self._loaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _prepare_node(tables: Tables, attachments: Attachments, from_bounce: int) -> None:
    def prepare(ip: Netlink) -> None:
        ifindex = node.ensure_bounce_device(ip)
        node.ensure_routing(ip)
        attachments.forget_gone({link.index for link in LinkTable(ip).links})
        attachments.attach(ip, ifindex, Hook.INGRESS, "from_bounce", from_bounce)
        found = node.disable_early_demux()
        config = tables.read_config()
        saved = config.saved_early_demux or found + 1
        tables.update_config(bounce_ifindex=ifindex, saved_early_demux=saved, epoch=max(1, config.epoch))

    with_netlink(prepare)


def _place(ip: Netlink, snapshot: Snapshot) -> _Placement:
    links = LinkTable(ip)
    found: dict[int, int] = {}
    missing: dict[int, str] = {}
    taken: dict[int, int] = {}
    for endpoint in snapshot.endpoints.values():
        if not endpoint.is_local:
            continue
        ifindex = _find_interface(links, endpoint)
        if isinstance(ifindex, str):
            missing[endpoint.id] = ifindex
        elif ifindex in taken:
            missing[endpoint.id] = f"its interface already belongs to endpoint {taken[ifindex]}"
        else:
            found[endpoint.id] = ifindex
            taken[ifindex] = endpoint.id
    ways_out = {link.index for link in links.links if link.name not in ("lo", BOUNCE_DEVICE)}
    hosts = frozenset(node.host_addresses(ip))
    return _Placement(_asked(snapshot), found, missing, hosts, frozenset(ways_out.difference(found.values())))


def _asked(snapshot: Snapshot) -> dict[int, tuple[str, str]]:
    """Endpoint id → what its interface is found by, of local endpoints."""
    return {one.id: (one.interface, one.netns) for one in snapshot.endpoints.values() if one.is_local}


def _find_interface(links: LinkTable, endpoint: Endpoint) -> int | str:
    if endpoint.interface:
        ifindex = links.by_name(endpoint.interface)
        return ifindex if ifindex is not None else f"no interface {endpoint.interface}"
    return links.by_namespace(endpoint.netns)


def _flags(endpoint: Endpoint, policy: EndpointPolicy | None) -> EndpointFlag:
    flags = EndpointFlag.AUDIT if endpoint.audit else EndpointFlag(0)
    if policy is None:
        # An endpoint without a policy has none yet: closed, with no rows.
        return flags | EndpointFlag.ENFORCE_INGRESS | EndpointFlag.ENFORCE_EGRESS
    for section, enforced, tried in (
        (policy.ingress, EndpointFlag.ENFORCE_INGRESS, EndpointFlag.TRY_INGRESS),
        (policy.egress, EndpointFlag.ENFORCE_EGRESS, EndpointFlag.TRY_EGRESS),
    ):
        if section.enforced:
            flags |= enforced | tried if section.audit else enforced
    return flags


def _rows(policy: EndpointPolicy) -> Policy:
    entries = policy_entries(policy)
    rows = {value: Row(_VERDICTS[value.verdict], value.rule_id, value.audited) for value in set(entries.values())}
    return {RowKey._make(key): rows[value] for key, value in entries.items()}


def _read_metrics(metrics: PerCpuArray[Metric]) -> tuple[tuple[int, int], tuple[DropCount, ...]]:
    forwarded = {Direction.INGRESS: 0, Direction.EGRESS: 0}
    drops = []
    for reason in (0, *DropReason):
        for direction in Direction:
            values = metrics.get(reason * 2 + direction)
            packets, size = sum(v.packets for v in values), sum(v.bytes for v in values)
            if reason == 0:
                forwarded[direction] = packets
            elif packets:
                drops.append(DropCount(int(reason), direction, packets, size))
    return (forwarded[Direction.INGRESS], forwarded[Direction.EGRESS]), tuple(drops)


def cleanup(pin_dir: Path) -> list[str]:
    """Stop enforcing in this network namespace and remove everything that is ours. Says what it removed."""
    saved = _saved_early_demux(pin_dir)

    def remove(ip: Netlink) -> list[str]:
        removed = []
        attachments = Attachments(pin_dir / "links")
        for link in LinkTable(ip).links:
            removed += [f"{program} of {link.name}" for program in attachments.detach(ip, link.index)]
        return removed + translation.remove() + node.remove(ip)

    removed = with_netlink(remove)
    if saved is not None:
        removed.append(node.restore_early_demux(saved))
    return removed + loader.unpin(pin_dir)


def _saved_early_demux(pin_dir: Path) -> int | None:
    config = loader.read_config(pin_dir)
    return config.saved_early_demux - 1 if config and config.saved_early_demux else None
