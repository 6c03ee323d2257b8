"""The opening handshake of a WebSocket (RFC 6455 §4): proof that both ends mean one.

A tunnel is opened for nothing else, so that no other protocol gets past the rules as an upgrade.
"""

from __future__ import annotations

import base64
import hashlib
import re

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""Sixteen bytes in base64."""


def accept_of(key: bytes) -> bytes:
    """What a server must answer in Sec-WebSocket-Accept."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
