"""Flow records: what was seen and decided, in the terms of Hubble's `flow.proto`.

```
workers ── wire.Batch ──▶ from_workers ─┐                 ┌─▶ api (JSON lines) ─▶ cli observe, UI
kernel  ── PacketEvent ─▶ from_events  ─┼─▶ ring ─▶ query ┤
                              enrich ───┘                 └─▶ printers
```
Producers store small records; a `Flow` is built when somebody reads it. Everything that the CLI needs (model, jsonpb,
filters, printers) is standard library only.
"""
