"""Snapshot → kernel: the one package through which the proxy uses bpf/.

`Datapath.open` loads the programs, adopting what an earlier agent left pinned, and prepares the network namespace it is
called in. `sync` makes a snapshot the truth of the kernel. `close` leaves everything enforcing; `cleanup` takes
everything away. Calls block on netlink and system calls for milliseconds: the agent makes them off its event loop.
"""

from __future__ import annotations

from bpf.addresses import unpack_address
from bpf.connections import ConnectionFacts, ConnectionTable, Redirected
from bpf.errors import AttachError, BpfError, LayoutMismatch, LoadError, MapError, MapFull, PinError
from bpf.events import READ_EVERY_S, EventReader, EventType, PacketEvent
from bpf.features import Feature, probe
from bpf.loader import Options
from bpf.marks import MARK_FROM_PROXY
from bpf.names import NameSlot, NamesMap, boottime, make_lock, mapped
from bpf.pinned import PinnedMaps, pinned_maps
from bpf.reasons import DropReason, reason_help, reason_name, reason_text
from bpf.tables import SERVICE_IDENTITY
from proxy.datapath.kernel import Datapath, cleanup
from proxy.datapath.report import DatapathStatus, SyncReport
from proxy.datapath.state import StateBuilder, desired_state

__all__ = [
    "MARK_FROM_PROXY",
    "READ_EVERY_S",
    "SERVICE_IDENTITY",
    "AttachError",
    "BpfError",
    "ConnectionFacts",
    "ConnectionTable",
    "Datapath",
    "DatapathStatus",
    "DropReason",
    "EventReader",
    "EventType",
    "Feature",
    "LayoutMismatch",
    "LoadError",
    "MapError",
    "MapFull",
    "NameSlot",
    "NamesMap",
    "Options",
    "PacketEvent",
    "PinError",
    "PinnedMaps",
    "Redirected",
    "StateBuilder",
    "SyncReport",
    "boottime",
    "cleanup",
    "desired_state",
    "make_lock",
    "mapped",
    "pinned_maps",
    "probe",
    "reason_help",
    "reason_name",
    "reason_text",
    "unpack_address",
]
