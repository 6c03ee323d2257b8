"""dnsdist on the node: one listener and so one thread for questions, one for answers; a list of names, else REFUSED.

Its ring buffers, which are on by default, keep the latest questions and answers: its flow records, so to speak.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from benchmarks.topology import NODE, Topology

PROGRAM = "dnsdist"
LISTEN = 5300


def version() -> str:
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def serve(place: Topology, port: int, names: Sequence[str]) -> int:
    """Its pid. What passes goes to that port of the server."""
    listed, config = place.folder / "dnsdist-names", place.folder / "dnsdist.conf"
    listed.write_text("".join(f"{name}\n" for name in names), encoding="ascii")
    config.write_text(
        f"""
setLocal("{place.node_address}:{LISTEN}")
setACL("{place.client_address}/32")
setSecurityPollSuffix("")
newServer("{place.server_address}:{port}")
getServer(0):setUp() -- no health checks
allowed = newSuffixMatchNode()
for name in io.lines("{listed}") do
    allowed:add(newDNSName(name))
end
addAction(NotRule(SuffixMatchNodeRule(allowed)), RCodeAction(DNSRCode.REFUSED))
""",
        encoding="ascii",
    )
    argv = [PROGRAM, "--supervised", "--disable-syslog", "--config", str(config)]
    return place.serve(NODE, argv, LISTEN, place.processors.proxy)
