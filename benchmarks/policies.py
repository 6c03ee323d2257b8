"""Folders of made-up policies: so many policies over so many endpoints and prefixes, always the same ones.

Of ten policies one lists CIDRs, three have HTTP rules on a named port, six allow a port to pods by labels, their own
namespace's and another's. Each is about the two replicas of one app.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PODS_PER_NAMESPACE = 50
REPLICAS = 2
APPS = PODS_PER_NAMESPACE // REPLICAS
CIDR_EVERY, HTTP_EVERY = 10, 3


def endpoints(count: int, *, local: bool) -> list[dict[str, Any]]:
    """Items of an endpoints file. Local ones have an interface, which need not exist to compile policies for them."""
    found = []
    for number in range(count):
        namespace, pod = divmod(number, PODS_PER_NAMESPACE)
        item = {
            "name": f"p{pod}",
            "namespace": f"ns{namespace}",
            "labels": {"app": f"a{pod // REPLICAS}", "tier": f"t{pod % 3}"},
            "addresses": [f"10.{128 + number // 65536}.{number // 256 % 256}.{number % 256}"],
            "ports": [{"name": "http", "containerPort": 8080}],
        }
        found.append(item | ({"interface": f"v{number}"} if local else {}))
    return found


def write_policies(folder: Path, count: int, namespaces: int, cidrs: int) -> None:
    """One file per policy. As JSON, which is YAML, too, and what tools write."""
    folder.mkdir(parents=True, exist_ok=True)
    prefixes = _prefixes()
    each = cidrs // max(1, -(-count // CIDR_EVERY))
    for number in range(count):
        networks = [next(prefixes) for _ in range(each)] if number % CIDR_EVERY == 0 else []
        text = json.dumps(policy(number, namespaces, networks))
        (folder / f"p{number:05}.yaml").write_text(text, encoding="utf-8")


def policy(number: int, namespaces: int, networks: list[str]) -> dict[str, Any]:
    namespace, app = number % namespaces, number // namespaces % APPS
    spec: dict[str, Any] = {"endpointSelector": {"matchLabels": {"app": f"a{app}"}}}
    if networks:
        ports = [{"ports": [{"port": "443", "protocol": "TCP"}]}]
        spec["egress"] = [{"toCIDR": networks, "toPorts": ports}]
    elif number % HTTP_EVERY == 0:
        rules = [{"method": "GET", "path": f"/v{number}/.*"}, {"method": "POST", "path": "/orders"}]
        ports = [{"ports": [{"port": "http", "protocol": "TCP"}], "rules": {"http": rules}}]  # type: ignore[dict-item]
        spec["ingress"] = [{"fromEndpoints": [_peer(app + 1)], "toPorts": ports}]
    else:
        ports = [{"ports": [{"port": str(1000 + number % 1000), "protocol": "TCP"}]}]
        other = {"matchLabels": {"tier": "t1", "k8s:io.kubernetes.pod.namespace": f"ns{(namespace + 1) % namespaces}"}}
        spec["ingress"] = [{"fromEndpoints": [_peer(app + 2), other], "toPorts": ports}]
    metadata = {"name": f"p{number}", "namespace": f"ns{namespace}"}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}


def _peer(app: int) -> dict[str, Any]:
    return {"matchLabels": {"app": f"a{app % APPS}"}}


def _prefixes() -> Iterator[str]:
    """/24s from 11.0.0.0 on."""
    return (f"{11 + number // 65536}.{number // 256 % 256}.{number % 256}.0/24" for number in range(1 << 22))
