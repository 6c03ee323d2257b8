"""The policy under test. Every subject says the same in its own language."""

from __future__ import annotations

from dataclasses import dataclass

PORT = 8080
"""Where the origin listens, and the port of the policy."""


@dataclass(frozen=True, slots=True)
class HttpRule:
    """A method and an RE2 expression that the whole path, query included, must match."""

    method: str
    path: str


Rules = tuple[HttpRule, ...]

READ_API: Rules = (HttpRule("GET", "/api/.*"),)
"""The client may GET below /api/ on the server's port; everything else is refused."""
CALL_API: Rules = (HttpRule("POST", r"/bench\.Api/Items\.Get"),)
"""The client may call one gRPC method; everything else is refused."""


def services(count: int) -> Rules:
    """So many rules, each for a path of its own: the last one is for `/api/v1/service-COUNT/`."""
    return tuple(HttpRule("GET", f"/api/v1/service-{number}/.*") for number in range(1, count + 1))
