"""Both ends of a connection are judged in one pass."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    HeaderAction,
    HeaderMatch,
    HttpRule,
    KafkaRule,
    Origin,
    PortRange,
    Rule,
    ServerName,
    Snapshot,
)
from parsers.errors import ParseError
from parsers.facts import ClientHello, EditKind, HeaderEdit, HttpRequest, KafkaRequest
from parsers.http.judging import Denial, Ruling
from proxy.datapath import ConnectionFacts, Redirected
from proxy.flows.model import Verdict
from proxy.worker.judges import MAX_TOLD_HEADERS, ConnectionRefused, HttpJudge, JudgeTable, KafkaJudge, NameJudge, Note
from proxy.worker.main import has_kafka_rules
from proxy.worker.options import Refusals

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
    return JudgeTable(Snapshot(5, endpoints, policies, origins=origins), Refusals(body=b"no\r\n"))


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


def test_a_refusal_of_rules_that_are_only_tried_out_passes_and_is_noted() -> None:
    judges = table(ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "/public"),), audit=True))
    assert note(judges, LOCAL_PAIR, b"/public") == (True, Note(Verdict.FORWARDED, Direction.INGRESS, 4, 5))
    permit, why = note(judges, LOCAL_PAIR, b"/secret")
    assert (permit, why.verdict, why.direction, why.rule) == (True, Verdict.AUDIT, Direction.INGRESS, 0)
    assert "policy-4" in why.reason


def test_what_is_only_tried_out_at_one_end_does_not_excuse_the_other() -> None:
    judges = table(
        ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "/a"),)),
        egress=DirectionPolicy(True, (http(3, SERVER_ID, "/b"),), audit=True),
    )
    assert note(judges, LOCAL_PAIR, b"/a")[1].verdict is Verdict.AUDIT
    permit, why = note(judges, LOCAL_PAIR, b"/b")
    assert (permit, why.verdict, why.direction) == (False, Verdict.DROPPED, Direction.INGRESS)


def test_a_connection_that_only_tried_out_rules_refuse_is_judged() -> None:
    tried = replace(plain(5, CLIENT_ID, deny=True), audit=True)
    judges = table(ingress=DirectionPolicy(True, (tried, http(4, CLIENT_ID, "/a"))))
    assert note(judges, LOCAL_PAIR, b"/a")[0]
    assert not note(judges, LOCAL_PAIR, b"/b")[0]
    assert note(table(ingress=DirectionPolicy(True, (tried,), audit=True)), LOCAL_PAIR, b"/b")[0]


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


def acting(number: int, *matches: HeaderMatch, path: str = "") -> Rule:
    return Rule(origin(number), None, (PortRange(6, 80, 80),), l7=(HttpRule(path=path, header_matches=matches),))


def rule(judges: JudgeTable, *headers: tuple[bytes, bytes]) -> Ruling:
    judge = judges.judge(LOCAL_PAIR, 80)
    assert isinstance(judge, HttpJudge)
    return judge.rule(HttpRequest(b"GET", b"/", b"a", headers))


TOKEN = HeaderMatch("x-token", HeaderAction.REPLACE, "s3cret", "shop/token")
NEEDS_TOKEN = HeaderMatch("x-token", HeaderAction.FAIL, "s3cret", "shop/token")
SET_TOKEN = HeaderEdit(EditKind.SET, b"x-token", b"s3cret")


def test_a_permitted_request_carries_edits_and_the_record_says_why() -> None:
    judges = table(ingress=DirectionPolicy(True, (acting(4, TOKEN, HeaderMatch("a", HeaderAction.LOG, "1")),)))
    ruling = rule(judges, (b"x-token", b"theirs"))
    assert (ruling.permit, ruling.edits) == (True, (SET_TOKEN,))
    reason = 'header "x-token" has another value; header "a" is missing'
    assert ruling.note == Note(Verdict.FORWARDED, Direction.INGRESS, 4, 5, reason)
    assert "s3cret" not in repr(ruling)
    fine = rule(judges, (b"x-token", b"s3cret"), (b"a", b"1"))
    assert fine == Ruling(True, Note(Verdict.FORWARDED, Direction.INGRESS, 4, 5))


def test_the_source_edits_first_and_the_destination_judges_what_it_would_get() -> None:
    add, remove = HeaderMatch("a", HeaderAction.ADD, "1"), HeaderMatch("a", HeaderAction.DELETE, "2")
    egress = DirectionPolicy(True, (acting(3, TOKEN, add),))
    ingress = DirectionPolicy(True, (acting(4, NEEDS_TOKEN, remove),))
    ruling = rule(table(ingress, egress))
    assert ruling.permit
    assert ruling.edits == (SET_TOKEN, HeaderEdit(EditKind.ADD, b"a", b"1"), HeaderEdit(EditKind.REMOVE, b"a"))
    assert not rule(table(ingress)).permit
    assert not rule(table(egress=ingress, ingress=egress)).permit


def test_a_refused_request_carries_no_edits_and_no_values() -> None:
    egress = DirectionPolicy(True, (acting(3, TOKEN),))
    ingress = DirectionPolicy(True, (acting(4, replace(NEEDS_TOKEN, value="oth3r")),))
    ruling = rule(table(ingress, egress), (b"x-token", b"theirs"))
    assert (ruling.permit, ruling.edits, ruling.body) == (False, (), b"no\r\n")
    for value in ("s3cret", "oth3r", "theirs"):
        assert value not in repr(ruling)


def test_what_audit_lets_pass_is_noted_beside_the_headers() -> None:
    egress = DirectionPolicy(True, (acting(3, TOKEN),))
    ingress = DirectionPolicy(True, (http(4, CLIENT_ID, "/public"),))
    ruling = rule(table(ingress, egress, audit=True))
    assert isinstance(ruling.note, Note)
    assert (ruling.permit, ruling.note.verdict, ruling.edits) == (True, Verdict.AUDIT, (SET_TOKEN,))
    assert 'path "/" does not match "/public"' in ruling.note.reason
    assert ruling.note.reason.endswith('; header "x-token" is missing')


def test_a_record_tells_a_bounded_number_of_headers() -> None:
    matches = [HeaderMatch(f"h{number}", HeaderAction.LOG, "1") for number in range(100)]
    ruling = rule(table(ingress=DirectionPolicy(True, (acting(4, *matches),))))
    assert isinstance(ruling.note, Note)
    assert ruling.note.reason.count("is missing") == MAX_TOLD_HEADERS
    assert ruling.note.reason.endswith("; and 80 more headers")


def names(number: int, *patterns: str, audit: bool = False) -> Rule:
    wanted = tuple(ServerName(pattern) for pattern in patterns)
    return Rule(origin(number), None, (PortRange(6, 80, 80),), l7=wanted, audit=audit)


def name_note(judges: JudgeTable, name: str) -> tuple[bool, Note]:
    judge = judges.judge(LOCAL_PAIR, 80)
    assert isinstance(judge, NameJudge)
    ruling = judge.rule_name(ClientHello(name))
    assert isinstance(ruling.note, Note)
    return ruling.permit, ruling.note


def test_server_names_decide_at_both_ends() -> None:
    judges = table(
        ingress=DirectionPolicy(True, (names(4, "*.example.com"),)),
        egress=DirectionPolicy(True, (names(3, "a.example.com", "a.example.org"),)),
    )
    assert name_note(judges, "A.example.com") == (True, Note(Verdict.FORWARDED, Direction.INGRESS, 4, 5))
    permit, why = name_note(judges, "b.example.com")
    assert (permit, why.verdict, why.direction) == (False, Verdict.DROPPED, Direction.EGRESS)
    assert '"b.example.com" is not "a.example.com"' in why.reason
    assert name_note(judges, "a.example.org")[1].direction is Direction.INGRESS
    assert "names no server" in name_note(judges, "")[1].reason


def test_names_that_are_only_tried_out_pass_and_are_noted() -> None:
    judges = table(ingress=DirectionPolicy(True, (names(4, "a.test", audit=True),), audit=True))
    permit, why = name_note(judges, "b.test")
    assert (permit, why.verdict) == (True, Verdict.AUDIT)


def test_http_at_one_end_and_names_at_the_other_exclude_each_other() -> None:
    judges = table(
        ingress=DirectionPolicy(True, (names(4, "a.test"),)),
        egress=DirectionPolicy(True, (http(3, SERVER_ID, "/a"),)),
    )
    refused = judges.judge(LOCAL_PAIR, 80)
    assert isinstance(refused, ConnectionRefused)
    assert "HTTP" in refused.reason


def test_a_plain_end_has_no_say_in_names() -> None:
    judges = table(
        ingress=DirectionPolicy(True, (names(4, "a.test"),)), egress=DirectionPolicy(True, (plain(3, None),))
    )
    assert name_note(judges, "a.test")[0]
    assert not name_note(judges, "b.test")[0]


@pytest.mark.parametrize(("method", "permit"), [("", False), ("GET|CONNECT", True), ("GET", False)])
def test_a_tunnel_is_for_rules_that_name_a_method(method: str, permit: bool) -> None:
    judges = table(ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "", method),)))
    judge = judges.judge(LOCAL_PAIR, 80)
    assert isinstance(judge, HttpJudge)
    ruling = judge.rule(HttpRequest(b"CONNECT", b"", b"db.test:5432"))
    assert ruling.permit is permit
    assert isinstance(ruling.note, Note)
    assert permit or "CONNECT" in ruling.note.reason


def test_a_refusal_is_what_settings_say() -> None:
    ingress = DirectionPolicy(True, (http(4, CLIENT_ID, "/public"),))
    snapshot = table(ingress=ingress).snapshot
    judge = JudgeTable(snapshot, Refusals(Denial.RESET, b"", tell_why=True)).judge(LOCAL_PAIR, 80)
    assert isinstance(judge, HttpJudge)
    ruling = judge.rule(HttpRequest(b"GET", "/geheim-\u00e4".encode("latin-1"), b"server"))
    assert (ruling.permit, ruling.denial, ruling.body) == (False, Denial.RESET, b"")
    assert b'path "/geheim-?" does not match "/public"' in ruling.told
    assert b"policy-4" in ruling.told


def test_what_no_rule_may_see_is_an_error_with_its_status() -> None:
    judge = table(ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "/public"),))).judge(LOCAL_PAIR, 80)
    assert isinstance(judge, HttpJudge)
    ruling = judge.refuse(HttpRequest(b"GET", b"/%2F", b"server"), ParseError("the path has an encoded slash"))
    assert (ruling.permit, ruling.status) == (False, 400)
    assert ruling.note == Note(Verdict.ERROR, Direction.INGRESS, 0, 5, "the path has an encoded slash")


def kafka(number: int, topic: str) -> Rule:
    rule = KafkaRule(frozenset((0, 3)), topic=topic)
    return Rule(origin(number), frozenset({CLIENT_ID}), (PortRange(6, 9092, 9092),), l7=(rule,))


def kafka_judge(judges: JudgeTable) -> KafkaJudge:
    judge = judges.judge(LOCAL_PAIR, 9092)
    assert isinstance(judge, KafkaJudge)
    return judge


def test_kafka_requests_are_judged_by_topic() -> None:
    judge = kafka_judge(table(ingress=DirectionPolicy(True, (kafka(4, "orders"),))))
    ruling = judge.rule_kafka(KafkaRequest(0, 9, "me", ("orders",)))
    assert (ruling.permit, ruling.note) == (True, Note(Verdict.FORWARDED, Direction.INGRESS, 4, 5))
    assert judge.rule_kafka(KafkaRequest(0, 9, "me", ("orders",))) is ruling
    refused = judge.rule_kafka(KafkaRequest(0, 9, "me", ("secret",)))
    assert isinstance(refused.note, Note)
    assert (refused.permit, refused.note.verdict) == (False, Verdict.DROPPED)
    assert "secret" in refused.note.reason
    assert "policy-4" in refused.note.reason


def test_kafka_requests_that_are_tried_out_pass() -> None:
    judge = kafka_judge(table(ingress=DirectionPolicy(True, (kafka(4, "orders"),)), audit=True))
    ruling = judge.rule_kafka(KafkaRequest(0, 9, "me", ("secret",)))
    assert isinstance(ruling.note, Note)
    assert (ruling.permit, ruling.note.verdict) == (True, Verdict.AUDIT)


def test_what_no_kafka_rule_gets_to_see() -> None:
    judge = kafka_judge(table(ingress=DirectionPolicy(True, (kafka(4, "orders"),))))
    ruling = judge.refuse_kafka(KafkaRequest(1), "why")
    assert (ruling.permit, ruling.note) == (False, Note(Verdict.ERROR, Direction.INGRESS, 0, 5, "why"))


def test_codecs_are_needed_where_there_are_kafka_rules() -> None:
    assert has_kafka_rules(table(ingress=DirectionPolicy(True, (kafka(4, "orders"),))).snapshot)
    assert not has_kafka_rules(table(ingress=DirectionPolicy(True, (http(4, CLIENT_ID, "/a"),))).snapshot)
