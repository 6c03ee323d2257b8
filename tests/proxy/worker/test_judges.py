"""Both ends of a connection are judged in one pass."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    HttpRule,
    Origin,
    PortRange,
    Rule,
    Snapshot,
)
from parsers.facts import HttpRequest
from proxy.datapath import ConnectionFacts, Redirected
from proxy.flows.model import Verdict
from proxy.worker.judges import ConnectionRefused, HttpJudge, JudgeTable, Note

CLIENT, SERVER = 1, 2
CLIENT_ID, SERVER_ID, WORLD_ID = 300, 301, 9
OPEN = DirectionPolicy(False)


def origin(number: int) -> Origin:
    return Origin(number, "CiliumNetworkPolicy", "shop", f"policy-{number}", "ingress[0]", "p.yaml", number)


def http(number: int, peer: int | None, path: str, method: str = "") -> Rule:
    identities = None if peer is None else frozenset({peer})
    return Rule(origin(number), identities, (PortRange(6, 80, 80),), l7=(HttpRule(method, path),))


def plain(number: int, peer: int | None, *, deny: bool = False) -> Rule:
    identities = None if peer is None else frozenset({peer})
    return Rule(origin(number), identities, (PortRange(6, 80, 80),), deny=deny)


def table(ingress: DirectionPolicy = OPEN, egress: DirectionPolicy = OPEN, *, audit: bool = False) -> JudgeTable:
    endpoints = {
        CLIENT: Endpoint(CLIENT, "shop", "client", frozenset(), CLIENT_ID, (ip_address("10.0.0.1"),), "a"),
        SERVER: Endpoint(SERVER, "shop", "server", frozenset(), SERVER_ID, (ip_address("10.0.0.2"),), "b", audit=audit),
    }
    policies = {CLIENT: EndpointPolicy(OPEN, egress), SERVER: EndpointPolicy(ingress, OPEN)}
    origins = {number: origin(number) for number in range(1, 10)}
    return JudgeTable(Snapshot(5, endpoints, policies, origins=origins), b"no\r\n")


LOCAL_PAIR = ConnectionFacts(CLIENT, SERVER, CLIENT_ID, SERVER_ID, Redirected.INGRESS, 3)
FROM_WORLD = ConnectionFacts(0, SERVER, WORLD_ID, SERVER_ID, Redirected.INGRESS, 3)
TO_WORLD = ConnectionFacts(CLIENT, 0, CLIENT_ID, WORLD_ID, Redirected.EGRESS, 3)


def note(judges: JudgeTable, facts: ConnectionFacts, path: bytes) -> tuple[bool, Note]:
    judge = judges.judge(facts, 80)
    assert isinstance(judge, HttpJudge)
    ruling = judge.rule(HttpRequest(b"GET", path, b"server"))
    assert isinstance(ruling.note, Note)
    return ruling.permit, ruling.note


def test_ingress_rules_decide() -> None:
    judges = table(ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "/public"),)))
    assert note(judges, LOCAL_PAIR, b"/public") == (True, Note(Verdict.FORWARDED, Direction.INGRESS, 4, 5))
    permit, why = note(judges, LOCAL_PAIR, b"/secret")
    assert not permit
    assert (why.verdict, why.direction, why.rule) == (Verdict.DROPPED, Direction.INGRESS, 0)
    assert "/secret" in why.reason
    assert "policy-4" in why.reason


def test_both_ends_must_permit() -> None:
    judges = table(
        ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "/(a|b)"),)),
        egress=DirectionPolicy(True, (http(3, SERVER_ID, "/(b|c)"),)),
    )
    assert [note(judges, LOCAL_PAIR, path)[0] for path in (b"/a", b"/b", b"/c")] == [False, True, False]
    assert note(judges, LOCAL_PAIR, b"/a")[1].direction is Direction.EGRESS
    assert note(judges, LOCAL_PAIR, b"/c")[1].direction is Direction.INGRESS


def test_only_the_local_end_is_judged() -> None:
    ingress = DirectionPolicy(True, (http(4, WORLD_ID, "/a"),))
    egress = DirectionPolicy(True, (http(3, WORLD_ID, "/b"),))
    assert note(table(ingress, egress), FROM_WORLD, b"/a")[0]
    assert note(table(ingress, egress), TO_WORLD, b"/b")[0]


def test_plain_allow_of_the_same_peer_wins_over_http_rules() -> None:
    judges = table(ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "/a"), plain(5, None))))
    assert note(judges, LOCAL_PAIR, b"/anything") == (True, Note(Verdict.FORWARDED, Direction.INGRESS, 5, 5))


@pytest.mark.parametrize(
    "rules", [(), (http(4, WORLD_ID, "/a"),), (http(4, CLIENT_ID, "/a"), plain(5, None, deny=True))]
)
def test_connection_without_permission_is_refused(rules: tuple[Rule, ...]) -> None:
    refused = table(ingress=DirectionPolicy(True, rules)).judge(LOCAL_PAIR, 80)
    assert isinstance(refused, ConnectionRefused)
    assert refused.direction is Direction.INGRESS
    assert refused.reason


def test_endpoints_that_are_not_known_are_refused() -> None:
    for facts in (ConnectionFacts(9, 0, 1, 2, Redirected.EGRESS, 3), ConnectionFacts(0, 0, 1, 2, Redirected.EGRESS, 3)):
        assert isinstance(table().judge(facts, 80), ConnectionRefused)


def test_audit_lets_pass_and_notes_it() -> None:
    judges = table(ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "/public"),)), audit=True)
    permit, why = note(judges, LOCAL_PAIR, b"/secret")
    assert (permit, why.verdict) == (True, Verdict.AUDIT)
    assert why.reason
    assert isinstance(table(ingress=DirectionPolicy(True), audit=True).judge(LOCAL_PAIR, 80), HttpJudge)


def test_connections_with_the_same_rules_share_a_judge() -> None:
    judges = table(ingress=DirectionPolicy(True, (http(4, None, "/a"),)))
    assert judges.judge(LOCAL_PAIR, 80) is judges.judge(LOCAL_PAIR, 80)
    assert judges.judge(FROM_WORLD, 80) is judges.judge(
        ConnectionFacts(0, SERVER, 10, SERVER_ID, Redirected.INGRESS, 4), 80
    )


def test_headers_are_judged_each_time() -> None:
    rule = Rule(origin(4), None, (PortRange(6, 80, 80),), l7=(HttpRule(headers=(("x-token", "good"),)),))
    judge = table(ingress=DirectionPolicy(True, (rule,))).judge(LOCAL_PAIR, 80)
    assert isinstance(judge, HttpJudge)
    good = HttpRequest(b"GET", b"/", b"a", ((b"x-token", b"good"),))
    bad = HttpRequest(b"GET", b"/", b"a", ((b"x-token", b"good"), (b"x-token", b"bad")))
    assert [judge.rule(request).permit for request in (good, bad, good)] == [True, False, True]
