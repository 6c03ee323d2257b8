"""Which rule decided about a probe: found in the agent's flow records by the probe's own local ports."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from proxy.flows.model import Flow, FlowType, L7Type, Policy, Verdict
from proxy.lab.lab import Lab
from proxy.lab.prober import Result

_PATIENCE_S = 3.0


def decisions(lab: Lab, results: Sequence[Result]) -> list[Flow | None]:
    """The deciding flow of each result. Workers send records in batches: the last ones take a moment to arrive."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        flows = lab.flows()
        found = [deciding_flow(flows, result) for result in results]
        if all(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def deciding_flow(flows: Iterable[Flow], result: Result) -> Flow | None:
    """An HTTP request's own record, else a drop, else the newest record of the connection's first packet."""
    mine = [flow for flow in flows if _is_of(flow, result)]
    requests = [flow for flow in mine if flow.l7 is not None and flow.l7.type is L7Type.REQUEST]
    drops = [flow for flow in mine if flow.verdict is Verdict.DROPPED]
    others = [flow for flow in mine if flow.type is FlowType.L3_L4]
    for group in (requests, drops, others):
        if group:
            return group[-1]
    return None


def _is_of(flow: Flow, result: Result) -> bool:
    return flow.l4 is not None and flow.l4.protocol == "TCP" and flow.l4.source_port in result.ports


def describe(flow: Flow | None) -> str:
    """`policy rule file:line`, in one line. The reason is added where it says more than the rule."""
    if flow is None:
        return "no flow record"
    denied = flow.verdict is Verdict.DROPPED
    named = (
        (flow.egress_denied_by, flow.ingress_denied_by) if denied else (flow.egress_allowed_by, flow.ingress_allowed_by)
    )
    names = ", ".join(_name(policy) for group in named for policy in group)
    rule = flow.deciding
    if rule is not None and rule.rule:
        place = f"{PurePath(rule.file).name}:{rule.line}" if rule.file else ""
        return " ".join(part for part in (names, rule.rule, place) if part)
    if denied:
        side = flow.traffic_direction.name.lower() if flow.traffic_direction else ""
        default = f"default deny, {side}".rstrip(", ") if rule is not None and rule.default_deny else ""
        why = flow.drop_reason_desc.lower().replace("_", " ")
        return f"{default or why}{f' ({names})' if names else ''}"
    return names or "no policy selects it"


def _name(policy: Policy) -> str:
    return policy.name
