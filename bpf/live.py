"""Which pairs of addresses have a flow that lives, by the map `ct`: such an address must not be closed under it."""

from __future__ import annotations

import struct
import time
from socket import IPPROTO_TCP
from typing import Final

from bpf.loader import Options
from bpf.maps import BpfMap
from bpf.pinned import FlowFlag
from bpf.structs import CtValue, Tuple

Pairs = set[tuple[bytes, bytes]]

_KEY: Final = struct.Struct("=16s16s4xB3x")  # source, destination, protocol
_VALUE: Final = struct.Struct("=IIiI12x")  # flags, epoch, verdict, last seen


def live_pairs(fd: int, pairs: Pairs, options: Options) -> Pairs:
    """Those of `pairs` (own address, peer's; 16 bytes each) between which a flow is neither over nor refused.

    Looks at every flow there is.
    """
    settings = options.settings()
    timeouts = settings.udp_timeout, settings.tcp_opening_timeout, settings.tcp_timeout
    found: Pairs = set()
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> 30
    for key, value in BpfMap("ct", fd, Tuple, CtValue).raw_items():
        source, destination, protocol = _KEY.unpack(key)
        for pair in ((source, destination), (destination, source)):
            if pair in pairs and pair not in found and _is_live(protocol, value, now, timeouts):
                found.add(pair)
    return found


def _is_live(protocol: int, value: bytes, now: int, timeouts: tuple[int, int, int]) -> bool:
    flags, _, verdict, last_seen = _VALUE.unpack(value)
    if verdict < 0 or flags & FlowFlag.CLOSED:
        return False
    datagrams, opening, established = timeouts
    limit = datagrams
    if protocol == IPPROTO_TCP:
        limit = established if flags & FlowFlag.REPLIED else opening
    return bool((now - last_seen) & 0xFFFFFFFF <= limit)
