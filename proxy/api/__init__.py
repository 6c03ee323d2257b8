"""The agent's API: HTTP and JSON over a Unix socket, read-only. CLI and UI know the agent through it alone.

`models` has the JSON shapes and `AgentView`, what the server needs from the agent; `views` derives shapes from a
snapshot; `server` serves (aiohttp); `client` asks (standard library only).
"""
