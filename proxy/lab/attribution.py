"""Which rule decided about a probe: found in the agent's flow records by the probe's own local ports."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from urllib.parse import urlsplit

from proxy.flows.model import Flow, FlowType, L7Type, Verdict
from proxy.lab.lab import Lab
from proxy.lab.prober import Result

ACCEPTED = "kafka 0"
_PATIENCE_S = 3.0
_FOLDER = re.compile(r"/(?:[^/\s]+/)+(?=[^/\s]+:\d+)")  # of the files named in reasons
_BETWEEN = re.compile(r"; (?=path |method |host |a required |topic |[\w ]+ is not of |version |client )")
_REASON = re.compile(r"(.*) \((\S+ \S+), (\S+:\d+)\)")  # "why (policy rule, file:line)": the policy comes first here


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
    """The request's own record, else a drop, else the newest record of the connection's first packet."""
    mine = [flow for flow in flows if _is_of(flow, result)]
    requests = [flow for flow in mine if flow.l7 is not None and flow.l7.type is L7Type.REQUEST]
    if result.probe.is_kafka:
        requests = _telling(requests, result)
    drops = [flow for flow in mine if flow.verdict is Verdict.DROPPED]
    others = [flow for flow in mine if flow.type is FlowType.L3_L4]
    for group in (requests, drops, others):
        if group:
            return group[-1]
    return None


def _telling(requests: list[Flow], result: Result) -> list[Flow]:
    """A Kafka client makes many requests: those that were refused, or else those that the probe is about."""
    refused = [flow for flow in requests if flow.verdict is Verdict.DROPPED]
    if refused and result.seen != ACCEPTED:
        return refused
    wanted = {"PRODUCE": "produce", "CONSUME": "fetch"}[result.probe.method]
    return [flow for flow in requests if flow.l7 and flow.l7.kafka and flow.l7.kafka.api_key == wanted] or requests


def _is_of(flow: Flow, result: Result) -> bool:
    if result.seen == "unresolved":
        return _asks_for(flow, result.probe.source, urlsplit(result.probe.target).hostname or "")
    datagrams = result.probe.is_lookup and not result.probe.target.startswith("tcp ")
    protocol = "UDP" if datagrams else "TCP"
    return flow.l4 is not None and flow.l4.protocol == protocol and flow.l4.source_port in result.ports


def _asks_for(flow: Flow, source: str, name: str) -> bool:
    """A program's own lookup goes from a port that nobody has chosen."""
    dns = flow.l7.dns if flow.l7 is not None else None
    asked = dns is not None and dns.query.removesuffix(".").lower() == name
    return asked and source == f"{flow.source.namespace}/{flow.source.pod_name}"


def describe(flow: Flow | None) -> str:
    """One line: policy, rule, file:line; or which matcher said no; or that no rule allowed it."""
    if flow is None:
        return "no flow record"
    names = ", ".join(_policies(flow))
    rule = flow.deciding
    if rule is not None and rule.rule:
        place = f"{PurePath(rule.file).name}:{rule.line}" if rule.file else ""
        return " ".join(part for part in (names, rule.rule, place) if part)
    if flow.verdict is not Verdict.DROPPED:
        return names or "no policy selects it"
    if flow.l7 is not None and rule is not None and rule.reason:
        return _nearest(_FOLDER.sub("", rule.reason))
    why = flow.drop_reason_desc.lower().replace("_", " ")
    if rule is not None and rule.default_deny:
        why = f"default deny, {flow.traffic_direction.name.lower()}"
    return f"{names}: {why}" if names else why


def _nearest(reason: str) -> str:
    """The rule that came nearest: of several, one whose path matched tells more than one whose path did not.

    With Kafka it is one that would permit the request for another topic.
    """
    reasons = _BETWEEN.split(reason)
    others = [text for text in reasons if not text.startswith("path ")]
    about_topics = [text for text in reasons if text.startswith("topic ")]
    nearest = [*about_topics, *others, *reasons][0]
    shown = _REASON.sub(r"\2 \3: \1", nearest)
    return f"{shown} (and {len(reasons) - 1} more)" if len(reasons) > 1 else shown


def _policies(flow: Flow) -> list[str]:
    """Names of the policies on the side of the verdict, egress first, each once."""
    if flow.verdict is Verdict.DROPPED:
        policies = (*flow.egress_denied_by, *flow.ingress_denied_by)
    else:
        policies = (*flow.egress_allowed_by, *flow.ingress_allowed_by)
    return list(dict.fromkeys(policy.name for policy in policies))
