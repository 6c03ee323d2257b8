"""Words of the API for what is in force."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from config.policy.resolved import DirectionPolicy, Endpoint, EndpointPolicy, Snapshot
from proxy.api.views import policy_enabled

OFF, ON, TRIED = DirectionPolicy(False), DirectionPolicy(True), DirectionPolicy(True, audit=True)


@pytest.mark.parametrize(
    ("ingress", "egress", "word", "in_audit_mode"),
    [
        (OFF, OFF, "none", "none"),
        (ON, OFF, "ingress", "audit-ingress"),
        (OFF, ON, "egress", "audit-egress"),
        (ON, ON, "both", "audit-both"),
        (TRIED, OFF, "audit-ingress", "audit-ingress"),
        (OFF, TRIED, "audit-egress", "audit-egress"),
        (TRIED, TRIED, "audit-both", "audit-both"),
        (ON, TRIED, "ingress", "audit-both"),
        (TRIED, ON, "egress", "audit-both"),
    ],
)
def test_policy_enabled(ingress: DirectionPolicy, egress: DirectionPolicy, word: str, in_audit_mode: str) -> None:
    for audit, expected in ((False, word), (True, in_audit_mode)):
        endpoint = Endpoint(7, "shop", "web", frozenset(), 300, (ip_address("10.0.0.1"),), "a", audit=audit)
        snapshot = Snapshot(1, {7: endpoint}, {7: EndpointPolicy(ingress, egress)})
        assert policy_enabled(snapshot, endpoint) == expected


def test_without_a_policy_nothing_is_enabled() -> None:
    endpoint = Endpoint(7, "shop", "web", frozenset(), 300, (ip_address("10.0.0.1"),))
    assert policy_enabled(Snapshot(1, {7: endpoint}), endpoint) == "none"
