"""HAProxy as an ordinary reverse proxy on the node: one thread, ACLs, connections to the server reused.

Paths are normalised before the ACLs see them, and every request is put into a log line (that nobody keeps).
Bodies are spliced: with its default buffers of 16 KiB alone it moved large ones at a quarter of the rate, and for small
answers there was no difference.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.failure import BenchmarkError
from benchmarks.rules import PORT, HttpRule
from benchmarks.subjects import Running
from benchmarks.topology import NODE, Topology

LISTEN = 9082
LOG_DESCRIPTOR = 9


class HAProxy:
    name = "haproxy"
    judges = True

    def about(self) -> str:
        done = subprocess.run([_program(), "-v"], capture_output=True, text=True, check=True)
        number = done.stdout.split()[2]
        return (
            f"HAProxy {number}, nbthread 1: an ordinary reverse proxy at the node's address, http-reuse, access log on"
        )

    def start(self, plain: Topology, rules: Sequence[HttpRule], folder: Path, stack: ExitStack) -> Running:
        config = folder / "haproxy.cfg"
        config.write_text(configuration(plain, rules), encoding="utf-8")
        # The log goes to an open descriptor, so that HAProxy writes it itself and nobody has to listen.
        argv = ["sh", "-c", f'exec "$0" -db -f "$1" {LOG_DESCRIPTOR}>/dev/null', _program(), str(config)]
        pid = plain.serve(NODE, argv, LISTEN, plain.processors.proxy)
        return Running(plain, plain.node_address, LISTEN, pid)


def _program() -> str:
    # Debian keeps it in /usr/sbin, which is not on everybody's path.
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise BenchmarkError("haproxy is not installed: `make bench` does that")
    return program


def configuration(place: Topology, rules: Sequence[HttpRule]) -> str:
    """`url` is the target with its query, as in the other subjects; -m reg is not anchored by itself."""
    allowed = "\n".join(
        f"    acl rule{i}_method method {rule.method}\n    acl rule{i}_path url -m reg ^{rule.path}$"
        for i, rule in enumerate(rules)
    )
    either = " or ".join(f"client rule{i}_method rule{i}_path" for i in range(len(rules)))
    return f"""
global
    nbthread 1
    maxconn 4096
    log fd@{LOG_DESCRIPTOR} format raw local0
    expose-experimental-directives

defaults
    mode http
    log global
    option httplog
    option splice-response
    option http-keep-alive
    http-reuse always
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s

listen api
    bind {place.node_address}:{LISTEN}
    http-request normalize-uri path-strip-dot
    http-request normalize-uri path-strip-dotdot full
    http-request normalize-uri path-merge-slashes
    acl client src {place.client_address}
{allowed}
    http-request return status 403 content-type text/plain string "Access denied" unless {either}
    server origin {place.server_address}:{PORT}
"""
