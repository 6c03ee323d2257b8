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


READ_API = (HttpRule("GET", "/api/.*"),)
"""The client may GET below /api/ on the server's port; everything else is refused."""
