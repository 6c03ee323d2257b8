"""The compiled programs in a network namespace of their own, driven one frame at a time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from bpf.events import EventReader, EventType, PacketEvent
from bpf.loader import LoadedObject, Options, load
from bpf.maps import BpfMap
from bpf.marks import MARK_MASK, MARK_RESET, MARK_TO_PROXY
from bpf.model import Names
from bpf.names import NamesMap, make_lock
from bpf.progrun import TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, run_program
from bpf.structs import Connection, CtValue, FragmentKey, FragmentValue, Tuple
from bpf.tables import Changes, DesiredState, Tables
from tests.bpf.packets import NODE_MAC
from tests.bpf.topology import Namespace, run

# The namespace has lo (1) and veth pairs; these are ends that stand for a pod's, for penstock0 and for an uplink.
POD_A, POD_B, BOUNCE, UPLINK = 2, 4, 6, 8
UNKNOWN = 1


@dataclass(frozen=True)
class Outcome:
    """`verdict` as the model has it. `resets`: the packet was made into the end of its connection."""

    verdict: int
    events: tuple[PacketEvent, ...]
    mark: int = 0
    resets: bool = False
    data: bytes = b""


class Kernel:
    def __init__(self, loaded: LoadedObject, namespace: Namespace) -> None:
        self._loaded = loaded
        self._namespace = namespace
        self.maps = loaded.maps
        self.tables = Tables(loaded.maps, 1024)
        self._events = EventReader(loaded.maps["events"])
        self.flows = BpfMap("ct", loaded.maps["ct"], Tuple, CtValue)
        self.fragments = BpfMap("fragments", loaded.maps["fragments"], FragmentKey, FragmentValue)
        self._lock_fd = make_lock()
        self.names = NamesMap(loaded.maps["names"], self._lock_fd)
        self._connections = BpfMap("proxy_conns", loaded.maps["proxy_conns"], Tuple, Connection)

    def apply(self, state: DesiredState) -> Changes:
        return self.tables.apply(state)

    def set_names(self, opened: Names) -> None:
        """Endpoint and address → the groups of names that have opened it; all others are closed."""
        for endpoint, address, _ in list(self.names.items()):
            self.names.change(endpoint, address, lambda slots: (), 1)
        for (endpoint, destination), groups in opened.items():
            self.names.open(endpoint, [destination.packed], groups, 0, 1)

    def forget_flows(self) -> None:
        for key in list(self.flows.keys()):
            self.flows.delete(key)
        for key in list(self._connections.keys()):
            self._connections.delete(key)
        for datagram in list(self.fragments.keys()):
            self.fragments.delete(datagram)

    def from_pod(self, frame: bytes, ifindex: int = POD_A) -> Outcome:
        return self._run("from_pod", frame, ifindex)

    def to_pod(self, frame: bytes, ifindex: int = POD_B, mark: int = 0) -> Outcome:
        return self._run("to_pod", frame, ifindex, mark)

    def to_world(self, frame: bytes, mark: int = 0) -> Outcome:
        return self._run("to_world", frame, UPLINK, mark)

    def from_bounce(self, frame: bytes, mark: int = MARK_TO_PROXY) -> Outcome:
        return self._run("from_bounce", frame, BOUNCE, mark)

    def _run(self, program: str, frame: bytes, ifindex: int, mark: int = 0) -> Outcome:
        self._events.read()
        # Only for this call: tests that run in between belong to the machine's own namespace.
        with self._namespace.enter():
            result = run_program(self._loaded.programs[program], frame, ifindex, mark)
        events = tuple(self._events.read())
        drops = [event for event in events if event.type is EventType.DROP]
        kind = result.mark & MARK_MASK
        if drops:
            assert len(drops) == 1
            assert result.action == TC_ACT_SHOT or kind in (MARK_RESET, MARK_TO_PROXY)
            return Outcome(drops[0].verdict, events, result.mark, result.action != TC_ACT_SHOT, result.data)
        if result.action == TC_ACT_UNSPEC:
            return Outcome(0, events, result.mark)
        assert result.action in (TC_ACT_OK, TC_ACT_REDIRECT), "every drop is told"
        assert kind == MARK_TO_PROXY
        return Outcome(1, events, result.mark)

    @contextlib.contextmanager
    def listen(self, device: str) -> Iterator[socket.socket]:
        """A packet socket on one of the namespace's devices."""
        with self._namespace.enter():
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            made.bind((device, 0))
        with made:
            made.settimeout(5)
            yield made

    def close(self) -> None:
        self._events.close()
        self._loaded.close()
        os.close(self._lock_fd)


@contextlib.contextmanager
def kernel(name: str) -> Iterator[Kernel]:
    namespace = Namespace(name)
    run("ip", "netns", "add", name)
    try:
        for pair in range(4):
            ends = ("address", NODE_MAC, "type", "veth", "peer", "name", f"y{pair}", "address", NODE_MAC)
            namespace.ip("link", "add", f"x{pair}", *ends)
            for end in ("x", "y"):
                namespace.ip("link", "set", f"{end}{pair}", "up")
        made = Kernel(load(None, Options(events_per_window=1 << 30, flows=4096)), namespace)
        try:
            made.tables.update_config(bounce_ifindex=BOUNCE)
            yield made
        finally:
            made.close()
    finally:
        run("ip", "netns", "del", name)
