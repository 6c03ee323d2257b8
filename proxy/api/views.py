"""Snapshot, status and ring → JSON shapes of the API. Pure functions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from config.policy.resolve import Selection
from config.policy.resolved import Direction, Endpoint, EndpointPolicy, Snapshot
from proxy.api.models import AgentStatus, Json
from proxy.flows.enrich import OWN_KIND
from proxy.flows.reasons import label_texts
from proxy.flows.ring import RingStatus

_SECOND_NS: Final = 1_000_000_000


def status(agent: AgentStatus, snapshot: Snapshot, ring: RingStatus) -> Json:
    """A `StatusResponse`: Cilium's keys where they fit, ours beside them."""
    uptime_ns = max(0, time.time_ns() - agent.started_ns)
    local = [endpoint for endpoint in snapshot.endpoints.values() if endpoint.is_local]
    return {
        "cilium": agent.overall.to_json(),
        "version": agent.version,
        "node": agent.node_name,
        "uptime-seconds": uptime_ns // _SECOND_NS,
        "policy": agent.policy.to_json(),
        "datapath": agent.datapath.to_json() | {"details": dict(agent.datapath_details)},
        "proxy": {
            "total-redirects": redirects(snapshot),
            "workers": [worker.to_json() for worker in agent.workers],
        },
        "endpoints": {
            "total": len(snapshot.endpoints),
            "local": len(local),
            "enforced": sum(policy_enabled(snapshot, endpoint) != "none" for endpoint in local),
        },
        "identities": {"total": len(snapshot.identities)},
        "hubble": {
            "state": "Ok",
            "observer": {
                "current-flows": ring.current,
                "max-flows": ring.maximum,
                "seen-flows": ring.seen,
                "lost-flows": ring.lost,
                "followers": ring.followers,
                "uptime": uptime_ns,
            },
        },
        "pending": list(agent.pending),
        "counters": dict(agent.counters),
    }


def redirects(snapshot: Snapshot) -> int:
    """How many (endpoint, direction) pairs send some connections to the proxy."""
    return sum(
        any(rule.l7 is not None for rule in policy.direction(direction).rules)
        for policy in snapshot.policies.values()
        for direction in Direction
        if policy.direction(direction).enforced
    )


def policy(agent: AgentStatus, snapshot: Snapshot) -> Json:
    """The policies in force, as their rules stand in files: what `penstock policy get` prints."""
    policies: dict[tuple[str, str, str], Json] = {}
    for origin in sorted(snapshot.origins.values(), key=lambda o: (o.kind, o.namespace, o.name, o.file, o.line, o.id)):
        if origin.kind == OWN_KIND:
            continue
        key = (origin.kind, origin.namespace, origin.name)
        entry = policies.setdefault(
            key, {"kind": origin.kind, "namespace": origin.namespace, "name": origin.name, "rules": []}
        )
        entry["rules"].append({"id": origin.id, "rule": origin.rule, "file": origin.file, "line": origin.line})
    for endpoint_id, rules in sorted(snapshot.policies.items()):
        for key in _deciding(rules):
            if key in policies:
                policies[key].setdefault("endpoints", []).append(endpoint_id)
    return {
        "policy": list(policies.values()),
        "revision": snapshot.revision,
        "findings": [finding.to_json() for finding in agent.policy.findings],
    }


def selectors(selections: Iterable[Selection]) -> list[Json]:
    """What `penstock policy selectors` prints; the keys are Cilium's."""
    return [
        {
            "selector": item.selector,
            "labels": [{"kind": kind, "namespace": namespace, "name": name} for kind, namespace, name in item.policies],
            "users": item.users,
            "identities": list(item.identities),
        }
        for item in selections
    ]


def _deciding(rules: EndpointPolicy) -> list[tuple[str, str, str]]:
    origins = [rule.origin for direction in Direction for rule in rules.direction(direction).rules]
    return sorted({(origin.kind, origin.namespace, origin.name) for origin in origins})


def endpoints(snapshot: Snapshot) -> list[Json]:
    return [_endpoint(snapshot, endpoint) for _, endpoint in sorted(snapshot.endpoints.items())]


def _endpoint(snapshot: Snapshot, endpoint: Endpoint) -> Json:
    addresses = {f"ipv{address.version}": str(address) for address in reversed(endpoint.addresses)}
    return {
        "id": endpoint.id,
        "status": {
            "external-identifiers": {"k8s-namespace": endpoint.namespace, "k8s-pod-name": endpoint.name},
            "identity": {"id": endpoint.identity, "labels": list(label_texts(endpoint.labels))},
            "networking": {
                "addressing": [addresses],
                "addresses": [str(address) for address in endpoint.addresses],
                "interface-name": endpoint.interface,
                "netns": endpoint.netns,
            },
            "policy": {
                "realized": {
                    "policy-enabled": policy_enabled(snapshot, endpoint),
                    "policy-revision": snapshot.revision,
                }
            },
            "state": "ready" if endpoint.is_local else "remote",
        },
    }


def policy_enabled(snapshot: Snapshot, endpoint: Endpoint) -> str:
    """`none`, `ingress`, `egress` or `both`: the directions that are enforced, not only tried out.

    If all of them are tried out, or the endpoint is in audit mode, those, with `audit-` before it.
    """
    rules = snapshot.policies.get(endpoint.id)
    if rules is None:
        return "none"
    directions = {"ingress": rules.ingress, "egress": rules.egress}
    enforced = [name for name, section in directions.items() if section.enforced]
    in_earnest = [name for name in enforced if not endpoint.audit and not directions[name].audit]
    words = in_earnest or enforced
    word = "both" if len(words) == len(directions) else "".join(words) or "none"
    return f"audit-{word}" if enforced and not in_earnest else word


def identities(snapshot: Snapshot) -> list[Json]:
    count: dict[int, int] = {}
    for endpoint in snapshot.endpoints.values():
        count[endpoint.identity] = count.get(endpoint.identity, 0) + 1
    return [
        {"id": number, "labels": list(label_texts(labels)), "refcount": count.get(number, 0)}
        for number, labels in sorted(snapshot.identities.items())
    ]
