"""Addresses to listen on, as settings have them: `127.0.0.1:9965`, `[::1]:9965`, or `:9965` for all of this host's."""

from __future__ import annotations

from ipaddress import ip_address


def split_address(text: str) -> tuple[str, int]:
    """Host and port; an empty host means all addresses. ValueError says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no address with a port, such as 127.0.0.1:9965 or :9965")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_right = ip_address(host).version == 6
    else:
        is_right = not host or ip_address(host).version == 4
    if not is_right:
        raise ValueError(f"{text!r}: IPv6 addresses stand in brackets, such as [::1]:9965, and others do not")
    return host, int(port)


def checked_address(text: str) -> str:
    """`text` if it is an address to listen on, or empty. ValueError if not."""
    if text:
        split_address(text)
    return text
