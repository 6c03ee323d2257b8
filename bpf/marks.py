"""Packet marks, and the routing that follows from them. Same numbers as include/penstock.h."""

from __future__ import annotations

from typing import Final

MARK_MASK: Final = 0xF00
MARK_TO_PROXY: Final = 0x200  # set by the programs: deliver locally, a socket is already assigned
MARK_SERVICE: Final = 0x400  # not judged yet: the node translates its destination; the sender's endpoint id above
MARK_RESET: Final = 0x700  # a TCP reset of ours
MARK_FROM_PROXY: Final = 0xB00  # SO_MARK of the proxy's sockets, listening and upstream
MARK_UNTRACKED: Final = 0x1000  # beside MARK_TO_PROXY: the node's connection tracking has seen it already
MARK_TO_SELF: Final = 0x2000  # beside MARK_SERVICE, set by our nftables table: the node itself is behind the service
ORIGIN_SHIFT: Final = 16

ROUTE_TABLE: Final = 2004  # `local default dev lo`
RULE_PRIORITY: Final = 9
SERVICE_TABLE: Final = 2005  # `default dev penstock1`
SERVICE_RULE_PRIORITY: Final = 8
LOCAL_RULE_PRIORITY: Final = 100  # where the rule for the table `local` goes, that is usually the first

BOUNCE_DEVICE: Final = "penstock0"
BOUNCE_PEER: Final = "penstock1"
