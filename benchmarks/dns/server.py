"""Knot DNS in the server's namespace: authoritative, one thread for datagrams, a port for each way there.

NSD is as fast on one processor.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.dns.names import TTL_S, ZONE, write_zone
from benchmarks.topology import SERVER, Topology

PROGRAM = "knotd"


FRESH_ZONE = "fresh"
"""Of its names there is one for every address of FRESH_NETWORK: `n-2001-0db8-…`."""

FRESH_NETWORK = "2001:db8:ffff::/48"


def serve(place: Topology, ports: Sequence[int]) -> None:
    """Start it on the processor of the load; its files go with the place."""
    folder = place.folder / "knot"
    folder.mkdir()
    write_zone(folder / "zone")
    (folder / "fresh-zone").write_text("@ 60 SOA ns admin 1 3600 600 86400 60\n@ 60 NS ns.bench.\n", encoding="ascii")
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
mod-synthrecord:
  - id: fresh
    type: forward
    prefix: n-
    ttl: {TTL_S}
    network: {FRESH_NETWORK}
zone:
  - domain: {FRESH_ZONE}
    file: {folder}/fresh-zone
    module: mod-synthrecord/fresh
    zonefile-sync: -1
    journal-content: none
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
