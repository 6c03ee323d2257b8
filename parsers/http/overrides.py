"""Headers that make servers act on another request than the one that was judged."""

from __future__ import annotations

from parsers.errors import ParseError

FRAMING = frozenset((b"content-length", b"transfer-encoding", b"host"))
"""What frames or routes a message."""

OVERRIDES = frozenset(
    (b"x-original-url", b"x-rewrite-url", b"x-http-method-override", b"x-http-method", b"x-method-override")
)
"""What some servers take for method or path: never forwarded."""


def is_override(name: bytes) -> bool:
    """Is the lower-case header `name` to be left out? Raises ParseError where it imitates one that frames.

    Servers that make variables of headers take `_` for `-`.
    """
    if name in OVERRIDES:
        return True
    if b"_" not in name:
        return False
    plain = name.replace(b"_", b"-")
    if plain in FRAMING:
        raise ParseError("a header imitates one that frames the message")
    return plain in OVERRIDES
