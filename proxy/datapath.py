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

from bpf import attach, loader, node
from bpf.addresses import Address, Network
from bpf.attach import Hook
from bpf.connections import ConnectionFacts, ConnectionTable, Redirected
from bpf.errors import AttachError, BpfError, LayoutMismatch, LoadError, MapError, PinError
from bpf.events import EventReader, EventType, PacketEvent
from bpf.features import Feature, probe
from bpf.links import LinkTable, fingerprint
from bpf.loader import Options
from bpf.maps import BpfMap, PerCpuArray
from bpf.marks import MARK_FROM_PROXY
from bpf.netlink import Netlink, with_netlink
from bpf.reasons import DropReason, reason_help, reason_name, reason_text
from bpf.structs import Config, EventsBudget, Metric
from bpf.tables import Changes, DesiredState, EndpointFlag, LocalEndpoint, Policy, Row, RowKey, RowVerdict, Tables
from config.policy.entries import EntryVerdict, policy_entries
from config.policy.resolved import Direction, Endpoint, EndpointPolicy, Snapshot

__all__ = [
    "MARK_FROM_PROXY",
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
    "Redirected",
    "SyncReport",
    "cleanup",
    "probe",
    "reason_help",
    "reason_name",
    "reason_text",
]

_HOST_IDENTITY: Final = 1
_MAX_WORKERS: Final = 128
_REASONS: Final = 256
_VERDICTS: Final = {
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
    """`forwarded`: packets by direction. `entries`: how full the tables are. `events_lost`: rate limit, ring full."""

    adopted: bool
    revision: int
    epoch: int
    workers: int
    interfaces: Mapping[int, int]
    pending: Mapping[int, str]
    entries: Mapping[str, int]
    forwarded: tuple[int, int]
    drops: tuple[DropCount, ...]
    events_lost: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Placement:
    """Where local endpoints are attached: endpoint id → interface index, or why there is none."""

    found: Mapping[int, int]
    missing: Mapping[int, str]


@dataclass(slots=True)
class Datapath:
    """The programs and maps of one node."""

    adopted: bool
    events: EventReader
    _loaded: loader.LoadedObject
    _tables: Tables
    _listener_lookup: int
    _attached: dict[int, int] = field(default_factory=dict)
    _pending: Mapping[int, str] = field(default_factory=dict)
    _fingerprint: tuple[object, ...] = ()
    _hosts: set[Address] = field(default_factory=set)
    _revision: int = 0
    _changing: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, pin_dir: Path, options: Options | None = None) -> Datapath:
        """Load or adopt, and prepare this network namespace. Traffic of adopted endpoints is enforced throughout."""
        options = options or Options()
        loaded = loader.load(pin_dir, options)
        try:
            tables = Tables(loaded.maps, options.policy_entries)
            _prepare_node(tables, loaded.programs["from_bounce"])
            events = EventReader(loaded.maps["events"])
            listener_lookup = attach.attach_to_listener_lookup(loaded.programs["choose_listener"])
        except BaseException:
            loaded.close()
            raise
        return cls(loaded.adopted, events, loaded, tables, listener_lookup)

    @property
    def connections_fd(self) -> int:
        """The map `proxy_conns`, for the workers' `ConnectionTable`. Close-on-exec: pass it on explicitly."""
        return self._loaded.maps["proxy_conns"]

    def sync(self, snapshot: Snapshot) -> SyncReport:
        """Make the snapshot the kernel's truth. Safe to repeat, also after it failed half-way."""
        with self._changing:
            return with_netlink(lambda ip: self._sync(ip, snapshot))

    def interfaces_changed(self, snapshot: Snapshot) -> bool:
        """Whether syncing the snapshot again would find other interfaces or node addresses than the last sync did.

        Meant to be asked often: while nothing changes in the namespace it costs no netlink dump.
        """
        now = fingerprint()
        if now == self._fingerprint:
            return False

        def differs(ip: Netlink) -> bool:
            found = _place(LinkTable(ip), snapshot).found
            in_force = {endpoint: ifindex for ifindex, endpoint in self._tables.interfaces().items()}
            return found != in_force or node.host_addresses(ip) != self._hosts

        if with_netlink(differs):
            return True
        self._fingerprint = now
        return False

    def _sync(self, ip: Netlink, snapshot: Snapshot) -> SyncReport:
        placement = _place(LinkTable(ip), snapshot)
        hosts = node.host_addresses(ip)
        state = desired_state(snapshot, placement.found, hosts)
        # What is no longer listed is detached before its entries go: else it would be cut off, not let go.
        detached = self._detach_others(ip, set(placement.found.values()))
        changes = self._tables.apply(state)
        attached = self._attach(ip, placement.found, snapshot)
        self._pending, self._hosts, self._fingerprint = placement.missing, hosts, ()
        self._revision = snapshot.revision
        return SyncReport(snapshot.revision, changes, attached, detached, placement.missing)

    def _attach(self, ip: Netlink, found: Mapping[int, int], snapshot: Snapshot) -> tuple[str, ...]:
        names = []
        for endpoint_id, ifindex in found.items():
            if self._attached.get(ifindex) == endpoint_id:
                continue
            # from_pod first: what leaves is checked before anything is let in.
            attach.attach(ip, ifindex, Hook.INGRESS, "from_pod", self._loaded.programs["from_pod"])
            attach.attach(ip, ifindex, Hook.EGRESS, "to_pod", self._loaded.programs["to_pod"])
            self._attached[ifindex] = endpoint_id
            endpoint = snapshot.endpoints[endpoint_id]
            names.append(f"{endpoint.namespace}/{endpoint.name}")
        return tuple(names)

    def _detach_others(self, ip: Netlink, wanted: set[int]) -> tuple[str, ...]:
        removed = []
        for ifindex in sorted((set(self._tables.interfaces()) | set(self._attached)) - wanted):
            self._attached.pop(ifindex, None)
            removed += [f"{program} of interface {ifindex}" for program in attach.detach(ip, ifindex)]
        return tuple(removed)

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
            forwarded=forwarded,
            drops=drops,
            events_lost=self.events_lost(),
        )

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


def _prepare_node(tables: Tables, from_bounce: int) -> None:
    def prepare(ip: Netlink) -> None:
        ifindex = node.ensure_bounce_device(ip)
        node.ensure_routing(ip)
        attach.attach(ip, ifindex, Hook.INGRESS, "from_bounce", from_bounce)
        found = node.disable_early_demux()
        config = tables.read_config()
        saved = config.saved_early_demux or found + 1
        tables.update_config(bounce_ifindex=ifindex, saved_early_demux=saved, epoch=max(1, config.epoch))

    with_netlink(prepare)


def _place(links: LinkTable, snapshot: Snapshot) -> _Placement:
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
    return _Placement(found, missing)


def _find_interface(links: LinkTable, endpoint: Endpoint) -> int | str:
    if endpoint.interface:
        ifindex = links.by_name(endpoint.interface)
        return ifindex if ifindex is not None else f"no interface {endpoint.interface}"
    return links.by_namespace(endpoint.netns)


def desired_state(snapshot: Snapshot, interfaces: Mapping[int, int], host_addresses: Iterable[Address]) -> DesiredState:
    """The tables of a snapshot. `interfaces`: endpoint id → interface index, as far as found."""
    rows: dict[int, Policy] = {}
    endpoints: dict[Address, LocalEndpoint] = {}
    for endpoint in snapshot.endpoints.values():
        if not endpoint.is_local:
            continue
        policy = snapshot.policies.get(endpoint.id)
        if id(policy) not in rows:
            rows[id(policy)] = _rows(policy) if policy is not None else {}
        local = LocalEndpoint(
            id=endpoint.id,
            identity=endpoint.identity,
            flags=_flags(endpoint, policy),
            ifindex=interfaces.get(endpoint.id, 0),
            policy=rows[id(policy)],
        )
        endpoints.update(dict.fromkeys(endpoint.addresses, local))
    ipcache: dict[Network, int] = dict(snapshot.ipcache)
    # The node's own addresses are the host, whatever prefix of a rule covers them.
    ipcache.update({ip_network(address): _HOST_IDENTITY for address in host_addresses})
    return DesiredState(endpoints, ipcache)


def _flags(endpoint: Endpoint, policy: EndpointPolicy | None) -> EndpointFlag:
    flags = EndpointFlag.AUDIT if endpoint.audit else EndpointFlag(0)
    # An endpoint without a policy has none yet: closed, with no rows.
    if policy is None or policy.ingress.enforced:
        flags |= EndpointFlag.ENFORCE_INGRESS
    if policy is None or policy.egress.enforced:
        flags |= EndpointFlag.ENFORCE_EGRESS
    return flags


def _rows(policy: EndpointPolicy) -> Policy:
    return {
        RowKey(key.identity, int(key.direction), int(key.protocol), key.port, key.prefix_bits): Row(
            _VERDICTS[value.verdict], value.rule_id
        )
        for key, value in policy_entries(policy).items()
    }


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
        for link in LinkTable(ip).links:
            removed += [f"{program} of {link.name}" for program in attach.detach(ip, link.index)]
        return removed + node.remove(ip)

    removed = with_netlink(remove)
    if saved is not None:
        removed.append(node.restore_early_demux(saved))
    return removed + loader.unpin(pin_dir)


def _saved_early_demux(pin_dir: Path) -> int | None:
    fd = loader.open_pinned(pin_dir / "maps" / "config")
    if fd is None:
        return None
    try:
        config = BpfMap("config", fd, c_uint32, Config).get(c_uint32(0))
    finally:
        os.close(fd)
    return config.saved_early_demux - 1 if config and config.saved_early_demux else None
