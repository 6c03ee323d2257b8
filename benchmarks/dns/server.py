"""Knot DNS in the server's namespace: authoritative, one thread for datagrams, a port for each way there.

NSD is as fast on one processor.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.dns.names import ZONE, write_zone
from benchmarks.topology import SERVER, Topology

PROGRAM = "knotd"


def serve(place: Topology, ports: Sequence[int]) -> None:
    """Start it on the processor of the load; its files go with the place."""
    folder = place.folder / "knot"
    folder.mkdir()
    write_zone(folder / "zone")
    config = folder / "knot.conf"
    listen = ", ".join(f"{place.server_address}@{port}" for port in ports)
    config.write_text(
        f"""
server:
    listen: [ {listen} ]
    rundir: {folder}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {folder}
zone:
  - domain: {ZONE}
    file: {folder}/zone
    zonefile-sync: -1
    journal-content: none
log:
  - target: stderr
    any: warning
""",
        encoding="ascii",
    )
    place.serve(SERVER, [PROGRAM, "--config", str(config)], ports[-1], place.processors.load)
