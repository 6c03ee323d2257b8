"""Events as the kernel writes them."""

from __future__ import annotations

import ctypes
from ipaddress import ip_address

from bpf.events import EventType, decode
from bpf.structs import Event


def test_every_field_is_read_from_its_place() -> None:
    raw = Event()
    for number, (name, kind) in enumerate((field[0], field[1]) for field in Event._fields_):
        if issubclass(kind, ctypes._SimpleCData):
            setattr(raw, name, number + 1)
    raw.type, raw.flags, raw.family, raw.verdict = EventType.DROP, 1, 6, -133
    raw.rule[0], raw.rule[1] = 70, 71
    tuple_ = raw.tuple
    tuple_.source[:] = ip_address("fd00::1").packed
    tuple_.destination[:] = ip_address("::ffff:10.0.0.2").packed
    tuple_.source_port[:], tuple_.destination_port[:], tuple_.protocol = b"\x01\x02", b"\x03\x04", 17
    event = decode(bytes(raw))
    for name in ("time_ns", "source_endpoint", "destination_endpoint", "source_identity", "destination_identity"):
        assert getattr(event, name) == getattr(raw, name)
    for name in ("ifindex", "length", "direction", "tcp_flags", "icmp_type", "icmp_code"):
        assert getattr(event, name) == getattr(raw, name)
    assert (event.type, event.audited, event.verdict, event.reason) == (EventType.DROP, True, -133, 133)
    assert (event.source, event.source_port) == (ip_address("fd00::1"), 0x102)
    assert (event.destination, event.destination_port) == (ip_address("10.0.0.2"), 0x304)
    assert (event.protocol, event.rules) == (17, (70, 71))
