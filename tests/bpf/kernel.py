"""The compiled programs in a network namespace of their own, driven one frame at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from bpf.events import EventReader, EventType, PacketEvent
from bpf.loader import LoadedObject, Options, load
from bpf.maps import BpfMap
from bpf.marks import MARK_TO_PROXY
from bpf.progrun import TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, run_program
from bpf.structs import Connection, CtValue, Tuple
from bpf.tables import Changes, DesiredState, Tables
from tests.bpf.topology import Namespace, run

# The namespace has lo (1) and two veth pairs; these are ends that stand for a pod's and for penstock0.
POD_A, POD_B, BOUNCE = 2, 4, 6
UNKNOWN = 1


@dataclass(frozen=True)
class Outcome:
    """`verdict` as the model has it."""

    verdict: int
    events: tuple[PacketEvent, ...]


class Kernel:
    def __init__(self, loaded: LoadedObject, namespace: Namespace) -> None:
        self._loaded = loaded
        self._namespace = namespace
        self.maps = loaded.maps
        self.tables = Tables(loaded.maps, 1024)
        self._events = EventReader(loaded.maps["events"])
        self.flows = BpfMap("ct", loaded.maps["ct"], Tuple, CtValue)
        self._connections = BpfMap("proxy_conns", loaded.maps["proxy_conns"], Tuple, Connection)

    def apply(self, state: DesiredState) -> Changes:
        return self.tables.apply(state)

    def forget_flows(self) -> None:
        for key in list(self.flows.keys()):
            self.flows.delete(key)
        for key in list(self._connections.keys()):
            self._connections.delete(key)

    def from_pod(self, frame: bytes, ifindex: int = POD_A) -> Outcome:
        return self._run("from_pod", frame, ifindex)

    def to_pod(self, frame: bytes, ifindex: int = POD_B, mark: int = 0) -> Outcome:
        return self._run("to_pod", frame, ifindex, mark)

    def from_bounce(self, frame: bytes, mark: int = MARK_TO_PROXY) -> Outcome:
        return self._run("from_bounce", frame, BOUNCE, mark)

    def _run(self, program: str, frame: bytes, ifindex: int, mark: int = 0) -> Outcome:
        self._events.read()
        # Only for this call: tests that run in between belong to the machine's own namespace.
        with self._namespace.enter():
            result = run_program(self._loaded.programs[program], frame, ifindex, mark)
        events = tuple(self._events.read())
        if result.action == TC_ACT_UNSPEC:
            return Outcome(0, events)
        if result.action in (TC_ACT_OK, TC_ACT_REDIRECT):
            assert result.mark == MARK_TO_PROXY
            return Outcome(1, events)
        assert result.action == TC_ACT_SHOT
        drops = [event for event in events if event.type is EventType.DROP]
        assert len(drops) == 1, "every drop is told"
        return Outcome(drops[0].verdict, events)

    def close(self) -> None:
        self._events.close()
        self._loaded.close()


@contextlib.contextmanager
def kernel(name: str) -> Iterator[Kernel]:
    namespace = Namespace(name)
    run("ip", "netns", "add", name)
    try:
        for pair in range(3):
            namespace.ip("link", "add", f"x{pair}", "type", "veth", "peer", "name", f"y{pair}")
        made = Kernel(load(None, Options(events_per_window=1 << 30, flows=4096)), namespace)
        try:
            made.tables.update_config(bounce_ifindex=BOUNCE)
            yield made
        finally:
            made.close()
    finally:
        run("ip", "netns", "del", name)
