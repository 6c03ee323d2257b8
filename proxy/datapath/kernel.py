"""The programs and maps of one node: opened, brought to a snapshot, looked at, closed, taken away."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from ctypes import c_uint32, c_uint64
from dataclasses import dataclass, field
from pathlib import Path
from socket import SOCK_DGRAM, SOCK_STREAM, AddressFamily
from types import TracebackType
from typing import Final, Self

from bpf import attach, loader, node, translation
from bpf.addresses import Network
from bpf.attach import Attachments, Hook
from bpf.errors import BpfError, MapError
from bpf.events import EventReader
from bpf.links import LinkTable, fingerprint
from bpf.live import live_pairs
from bpf.loader import Options
from bpf.maps import BpfMap, PerCpuArray
from bpf.netlink import Netlink, with_netlink
from bpf.pinned import read_counts
from bpf.structs import Connection, CtValue, EventsBudget, FragmentKey, FragmentValue, NamesKey, NamesValue, Tuple
from bpf.tables import Changes, Tables
from config.policy.resolved import Direction, Snapshot
from proxy.datapath.placement import Placement, asked, place
from proxy.datapath.report import DatapathStatus, SyncReport
from proxy.datapath.state import StateBuilder

_MAX_WORKERS: Final = 128
_SLOTS: Final[Mapping[int, int]] = {SOCK_STREAM: 0, SOCK_DGRAM: _MAX_WORKERS * 2}
"""Where in `proxy_sockets` the sockets of each type begin."""


@dataclass(slots=True)
class Datapath:
    """The programs and maps of one node."""

    adopted: bool
    events: EventReader
    _loaded: loader.LoadedObject
    _tables: Tables
    _listener_lookup: int
    _attachments: Attachments
    _options: Options
    _services: tuple[Network, ...]
    _states: StateBuilder
    _attached: dict[int, int] = field(default_factory=dict)
    _watched: frozenset[int] = frozenset()  # ways out of the node that are seen to
    _placement: Placement | None = None  # in force; None while that is not sure
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
                tables.update_config(saved_early_demux=_saved_early_demux(pin_dir))
            _prepare_node(tables, attachments, loaded.programs["from_bounce"])
            if services:
                translation.ensure(())
            elif not translation.is_in_use():
                translation.remove()  # of an agent that had some
            with_netlink(node.ensure_service_routing if services else node.remove_service_routing)
            events = EventReader(loaded.maps["events"])
            listener_lookup = attach.attach_to_listener_lookup(loaded.programs["choose_listener"])
        except BaseException:
            loaded.close()
            raise
        states = StateBuilder(services, options.policy_entries)
        opened = cls(loaded.adopted, events, loaded, tables, listener_lookup, attachments, options, services, states)
        opened._has_table = bool(services)
        opened._translate_if_needed()
        return opened

    @property
    def connections_fd(self) -> int:
        """The map `proxy_conns`, for the workers' `ConnectionTable`. Close-on-exec: pass it on explicitly."""
        return self._loaded.maps["proxy_conns"]

    @property
    def names_fd(self) -> int:
        """The map `names`, for `NamesMap`. Close-on-exec as well."""
        return self._loaded.maps["names"]

    def judge_again(self) -> None:
        """A new epoch: every flow is judged anew at its next packet."""
        with self._changing:
            self._tables.next_epoch()

    def live_connections(self, pairs: set[tuple[bytes, bytes]]) -> set[tuple[bytes, bytes]]:
        """Of these pairs of addresses (own, peer; 16 bytes each, IPv4 mapped) those between which a flow lives.

        Looks at every flow: milliseconds.
        """
        return live_pairs(self._loaded.maps["ct"], pairs, self._options)

    def sync(self, snapshot: Snapshot) -> SyncReport:
        """Make the snapshot the kernel's truth. Safe to repeat, also after it failed half-way."""
        with self._changing:
            now = fingerprint()
            placement = self._placement
            if placement is None or now != self._fingerprint or asked(snapshot) != placement.asked:
                return with_netlink(lambda ip: self._sync(ip, snapshot, now))
            # Nothing is to be found, attached or detached: no need to ask netlink.
            changes = self._apply(snapshot, placement)
            return SyncReport(snapshot.revision, changes, (), (), {}, self._states.oversized)

    def interfaces_changed(self, snapshot: Snapshot) -> bool:
        """Whether syncing the snapshot again would find other interfaces or node addresses than the last sync did.

        Meant to be asked often: while nothing changes in the namespace it costs no netlink dump.
        """
        with self._changing:
            self._translate_if_needed()
            now = fingerprint()
            if now == self._fingerprint:
                return False
            placement = with_netlink(lambda ip: place(ip, snapshot))
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
        placement = place(ip, snapshot)
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
        oversized = self._states.oversized
        return SyncReport(snapshot.revision, changes, attached, detached, placement.missing, oversized)

    def _apply(self, snapshot: Snapshot, placement: Placement) -> Changes:
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

    def _watch(self, ip: Netlink, placement: Placement) -> None:
        """See to it that packets to services are judged on their way out of the node; without services, to nothing."""
        for ifindex in placement.ways_out - self._watched:
            if self._services:
                self._attachments.attach(ip, ifindex, Hook.EGRESS, "to_world", self._loaded.programs["to_world"])
            else:
                self._attachments.detach(ip, ifindex)  # of an agent that had some
        self._watched = placement.ways_out
        if not self._services:
            return
        translation.ensure({*placement.found.values(), *self._watched})
        self._has_table = True

    def set_listeners(self, listeners: Iterable[tuple[int, int, int, int]]) -> None:
        """(worker index, address family, socket type, descriptor of a transparent socket) of every worker: what listens
        for connections, and what takes datagrams.

        The kernel forgets a listener by itself when its last descriptor is closed; until then the map holds no
        reference that keeps it alive.
        """
        wanted = list(listeners)
        workers = {worker for worker, *_ in wanted}
        if any(not 0 <= worker < _MAX_WORKERS for worker in workers):
            raise BpfError(f"there can be {_MAX_WORKERS} workers, numbered from 0")
        slots = {_slot(worker, family, kind): fd for worker, family, kind, fd in wanted}
        sockets = BpfMap("proxy_sockets", self._loaded.maps["proxy_sockets"], c_uint32, c_uint64)
        with self._changing:
            for slot, fd in slots.items():
                sockets.set(c_uint32(slot), c_uint64(fd))
            self._tables.update_config(workers=max(workers, default=-1) + 1)
            for slot in set(range(_MAX_WORKERS * 4)) - set(slots):
                sockets.delete_if_present(c_uint32(slot))

    def status(self) -> DatapathStatus:
        config = self._tables.read_config()
        counts = read_counts(self._loaded.maps["metrics"])
        passed = {one.direction: one.packets for one in counts if not one.reason}
        return DatapathStatus(
            adopted=self.adopted,
            revision=self._revision,
            epoch=config.epoch,
            workers=config.workers,
            interfaces=self._tables.interfaces(),
            pending=self._pending,
            oversized=self._states.oversized,
            entries=self._tables.sizes(),
            pressure=self._pressure,
            forwarded=(passed.get(Direction.INGRESS, 0), passed.get(Direction.EGRESS, 0)),
            drops=tuple(one for one in counts if one.reason),
            events_lost=self.events_lost(),
        )

    def measure(self) -> Mapping[str, float]:
        """How full each map is that can be, in percent. Looks at every flow: milliseconds, so not for every packet."""
        maps, sizes = self._loaded.maps, self._tables.sizes()
        counts = {
            "ct": BpfMap("ct", maps["ct"], Tuple, CtValue).count(),
            "proxy_conns": BpfMap("proxy_conns", maps["proxy_conns"], Tuple, Connection).count(),
            "fragments": BpfMap("fragments", maps["fragments"], FragmentKey, FragmentValue).count(),
            "names": BpfMap("names", maps["names"], NamesKey, NamesValue).count(),
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


def _slot(worker: int, family: int, kind: int) -> int:
    return _SLOTS[kind] + worker * 2 + (family == AddressFamily.AF_INET6)


def _prepare_node(tables: Tables, attachments: Attachments, from_bounce: int) -> None:
    def prepare(ip: Netlink) -> None:
        ifindex = node.ensure_bounce_device(ip)
        node.ensure_routing(ip)
        attachments.forget_gone({link.index for link in LinkTable(ip).links})
        attachments.attach(ip, ifindex, Hook.INGRESS, "from_bounce", from_bounce)
        config = tables.read_config()
        saved = node.disable_early_demux(config.saved_early_demux)
        tables.update_config(bounce_ifindex=ifindex, saved_early_demux=saved, epoch=max(1, config.epoch))

    with_netlink(prepare)


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
    return removed + node.restore_early_demux(saved) + loader.unpin(pin_dir)


def _saved_early_demux(pin_dir: Path) -> int:
    config = loader.read_config(pin_dir)
    return config.saved_early_demux if config else 0
