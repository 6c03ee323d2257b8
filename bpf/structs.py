"""ctypes mirrors of the structs in include/penstock.h.

Python trusts none of this blindly: `compare` sets sizes and offsets against the BTF of the compiled object, and the
loader refuses an object that differs. Ports and addresses are bytes in network order, as on the wire.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_uint8, c_uint32, c_uint64
from typing import Final

from bpf.btf import Layout
from bpf.errors import LoadError

_ADDRESS: Final = c_uint8 * 16
_PORT: Final = c_uint8 * 2
_BY_DIRECTION: Final = c_uint32 * 2


class Address(ctypes.Structure):
    _fields_ = (("word", _ADDRESS),)


class Tuple(ctypes.Structure):
    _fields_ = (
        ("source", _ADDRESS),
        ("destination", _ADDRESS),
        ("source_port", _PORT),
        ("destination_port", _PORT),
        ("protocol", c_uint8),
        ("pad", c_uint8 * 3),
    )
    source: ctypes.Array[c_uint8]
    destination: ctypes.Array[c_uint8]
    source_port: ctypes.Array[c_uint8]
    destination_port: ctypes.Array[c_uint8]
    protocol: int


class Endpoint(ctypes.Structure):
    _fields_ = (
        ("id", c_uint32),
        ("identity", c_uint32),
        ("policy_id", c_uint32),
        ("ifindex", c_uint32),
        ("flags", c_uint32),
    )
    id: int
    identity: int
    policy_id: int
    ifindex: int
    flags: int


class Interface(ctypes.Structure):
    _fields_ = (("id", c_uint32), ("pad", c_uint32), ("own", _ADDRESS * 2))
    id: int


class IpcacheKey(ctypes.Structure):
    _fields_ = (("prefix", c_uint32), ("address", _ADDRESS))
    prefix: int


class NamesKey(ctypes.Structure):
    _fields_ = (("endpoint", c_uint32), ("address", _ADDRESS))
    endpoint: int


class NameSlot(ctypes.Structure):
    _fields_ = (("identity", c_uint32), ("until", c_uint32))
    identity: int
    until: int


class NamesValue(ctypes.Structure):
    _fields_ = (("slots", NameSlot * 8),)
    slots: ctypes.Array[NameSlot]


class PolicyKey(ctypes.Structure):
    _fields_ = (
        ("prefix", c_uint32),
        ("identity", c_uint32),
        ("direction", c_uint8),
        ("protocol", c_uint8),
        ("port", _PORT),
    )
    prefix: int
    identity: int
    direction: int
    protocol: int
    port: ctypes.Array[c_uint8]


class PolicyValue(ctypes.Structure):
    _fields_ = (
        ("rule", c_uint32),
        ("audited", c_uint32),
        ("verdict", c_uint8),
        ("prefix", c_uint8),
        ("pad", c_uint8 * 2),
    )
    rule: int
    audited: int
    verdict: int
    prefix: int


class CtValue(ctypes.Structure):
    _fields_ = (
        ("flags", c_uint32),
        ("epoch", c_uint32),
        ("verdict", c_int32),
        ("last_seen", c_uint32),
        ("rule", _BY_DIRECTION),
        ("origin", c_uint32),
    )
    flags: int
    epoch: int
    verdict: int
    last_seen: int
    rule: ctypes.Array[c_uint32]
    origin: int


class Connection(ctypes.Structure):
    _fields_ = (
        ("source_endpoint", c_uint32),
        ("destination_endpoint", c_uint32),
        ("source_identity", c_uint32),
        ("destination_identity", c_uint32),
        ("flags", c_uint32),
        ("ifindex", c_uint32),
    )
    source_endpoint: int
    destination_endpoint: int
    source_identity: int
    destination_identity: int
    flags: int
    ifindex: int


class FragmentKey(ctypes.Structure):
    _fields_ = (
        ("source", _ADDRESS),
        ("destination", _ADDRESS),
        ("id", c_uint32),
        ("protocol", c_uint8),
        ("pad", c_uint8 * 3),
    )


class FragmentValue(ctypes.Structure):
    _fields_ = (
        ("source_port", _PORT),
        ("destination_port", _PORT),
        ("policy_port", _PORT),
        ("protocol", c_uint8),
        ("role", c_uint8),
    )


class Config(ctypes.Structure):
    _fields_ = (
        ("epoch", c_uint32),
        ("workers", c_uint32),
        ("bounce_ifindex", c_uint32),
        ("saved_early_demux", c_uint32),
        ("changing", c_uint32),
    )
    epoch: int
    workers: int
    bounce_ifindex: int
    saved_early_demux: int
    changing: int


class Settings(ctypes.Structure):
    _fields_ = (
        ("events_per_window", c_uint32),
        ("udp_timeout", c_uint32),
        ("tcp_timeout", c_uint32),
        ("tcp_opening_timeout", c_uint32),
        ("tcp_closed_timeout", c_uint32),
        ("silent", c_uint32),
    )
    events_per_window: int
    udp_timeout: int
    tcp_timeout: int
    tcp_opening_timeout: int
    tcp_closed_timeout: int


class Event(ctypes.Structure):
    _fields_ = (
        ("time_ns", c_uint64),
        ("tuple", Tuple),
        ("verdict", c_int32),
        ("source_endpoint", c_uint32),
        ("destination_endpoint", c_uint32),
        ("source_identity", c_uint32),
        ("destination_identity", c_uint32),
        ("rule", _BY_DIRECTION),
        ("ifindex", c_uint32),
        ("length", c_uint32),
        ("type", c_uint8),
        ("direction", c_uint8),
        ("family", c_uint8),
        ("flags", c_uint8),
        ("tcp_flags", c_uint8),
        ("icmp_type", c_uint8),
        ("icmp_code", c_uint8),
        ("pad", c_uint8 * 1),
    )


class EventsBudget(ctypes.Structure):
    _fields_ = (
        ("window", c_uint64),
        ("left", c_uint32),
        ("pad", c_uint32),
        ("rate_limited", c_uint64),
        ("ring_full", c_uint64),
    )
    rate_limited: int
    ring_full: int


class Metric(ctypes.Structure):
    _fields_ = (("packets", c_uint64), ("bytes", c_uint64))
    packets: int
    bytes: int


MIRRORS: Final[dict[str, type[ctypes.Structure]]] = {
    "address": Address,
    "tuple": Tuple,
    "endpoint": Endpoint,
    "interface": Interface,
    "ipcache_key": IpcacheKey,
    "names_key": NamesKey,
    "name_slot": NameSlot,
    "names_value": NamesValue,
    "policy_key": PolicyKey,
    "policy_value": PolicyValue,
    "ct_value": CtValue,
    "connection": Connection,
    "fragment_key": FragmentKey,
    "fragment_value": FragmentValue,
    "config": Config,
    "settings": Settings,
    "event": Event,
    "events_budget": EventsBudget,
    "metric": Metric,
}


def mirror_layout(mirror: type[ctypes.Structure]) -> Layout:
    """What ctypes makes of the declaration."""
    members = {str(field[0]): int(getattr(mirror, field[0]).offset) for field in mirror._fields_}
    return Layout(ctypes.sizeof(mirror), members)


def compare(layouts: dict[str, Layout]) -> None:
    """Raise unless every mirror is laid out as the object's own struct."""
    for name, mirror in MIRRORS.items():
        theirs, ours = layouts.get(name), mirror_layout(mirror)
        if theirs != ours:
            raise LoadError(f"struct {name}: the compiled object has {theirs}, bpf/structs.py has {ours}")


def port_bytes(port: int) -> ctypes.Array[c_uint8]:
    return _PORT(port >> 8, port & 0xFF)


def address_bytes(packed: bytes) -> ctypes.Array[c_uint8]:
    return _ADDRESS.from_buffer_copy(packed)
