"""The agent's API: HTTP and JSON over a Unix socket. CLI and UI know the agent through it alone. It is read-only,
but for making the agent forget DNS names.

`models` has the JSON shapes and `AgentView`, what the server needs from the agent; `views` derives shapes from a
snapshot; `server` serves (aiohttp); `client` asks (standard library only).
"""

from __future__ import annotations

from pathlib import Path


def socket_path(state_dir: Path) -> Path:
    """Where the agent of a state folder serves its API."""
    return state_dir / "penstock.sock"
