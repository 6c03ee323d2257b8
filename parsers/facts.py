"""What policy may look at: plain facts that a parser found in bytes it accepted.

Every field is exactly what is forwarded, so a rule can never match one thing and the server see another.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request, of any version, as HTTP rules see it.

    `path` is the canonical request target including its query part; `host` is the authority with its port if
    the client sent one; `headers` are (lower-case name, value) in the order of the message.
    """

    method: bytes
    path: bytes
    host: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
