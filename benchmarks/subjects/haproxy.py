"""HAProxy as an ordinary reverse proxy on the node: one thread, ACLs, connections to the server reused.

Paths are normalised before the ACLs see them, and every request is put into a log line (that nobody keeps).
Bodies are spliced: with its default buffers of 16 KiB alone it moved large ones at a quarter of the rate, and for small
answers there was no difference. HTTP/2 can not be spliced, so it gets larger buffers, and windows to fill them: that
takes a third of the CPU time for large bodies.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.failure import BenchmarkError
from benchmarks.rules import PORT, Rules
from benchmarks.subjects import Running
from benchmarks.topology import NODE, Topology

LISTEN = 9082
LOG_DESCRIPTOR = 9


@dataclass(frozen=True, slots=True)
class HAProxy:
    """`http2`: that is what client and server are spoken to in."""

    name: ClassVar[str] = "haproxy"
    judges: ClassVar[bool] = True
    http2: bool = False

    def about(self) -> str:
        done = subprocess.run([_program(), "-v"], capture_output=True, text=True, check=True)
        number = done.stdout.split()[2]
        version = "HTTP/2" if self.http2 else "HTTP/1.1"
        return f"HAProxy {number}, {version}, nbthread 1: a reverse proxy on the node, http-reuse, access log on"

    def start(self, plain: Topology, rules: Rules, folder: Path, stack: ExitStack) -> Running:
        config = folder / "haproxy.cfg"
        config.write_text(configuration(plain, rules, http2=self.http2), encoding="utf-8")
        # The log goes to an open descriptor, so that HAProxy writes it itself and nobody has to listen.
        argv = ["sh", "-c", f'exec "$0" -db -f "$1" {LOG_DESCRIPTOR}>/dev/null', _program(), str(config)]
        pid = plain.serve(NODE, argv, LISTEN, plain.processors.proxy)
        return Running(plain, plain.node_address, LISTEN, pid, pid)


def _program() -> str:
    # Debian keeps it in /usr/sbin, which is not on everybody's path.
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise BenchmarkError("haproxy is not installed: `make bench` does that")
    return program


def configuration(place: Topology, rules: Rules, *, http2: bool) -> str:
    """`pathq` is the path with its query, as in the other subjects; -m reg is not anchored by itself.

    The first rule that matches ends the judging. One condition with all rules in it would be too long a line.
    """
    allowed = "\n".join(
        f"    acl rule{i}_method method {rule.method}\n"
        f"    acl rule{i}_path pathq -m reg '^{rule.path}$'\n"
        f"    http-request allow if rule{i}_method rule{i}_path"
        for i, rule in enumerate(rules)
    )
    refuse = 'http-request return status 403 content-type text/plain string "Access denied"'
    proto = " proto h2" if http2 else ""
    larger = "tune.bufsize 65536\n    tune.h2.initial-window-size 1048576" if http2 else ""
    return f"""
global
    nbthread 1
    maxconn 4096
    log fd@{LOG_DESCRIPTOR} format raw local0
    expose-experimental-directives
    {larger}

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
    bind {place.node_address}:{LISTEN}{proto}
    http-request normalize-uri path-strip-dot
    http-request normalize-uri path-strip-dotdot full
    http-request normalize-uri path-merge-slashes
    acl client src {place.client_address}
    {refuse} unless client
{allowed}
    {refuse}
    server origin {place.server_address}:{PORT}{proto}
"""
