"""Both ends of a connection are judged in one pass."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.identity import FIRST_NAMED
from config.policy.explain import Party, Question, World, explain
from config.policy.name_groups import name_matcher
from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    DnsRule,
    Endpoint,
    EndpointPolicy,
    FqdnPeer,
    HeaderAction,
    HeaderMatch,
    HttpRule,
    KafkaRule,
    L7Rule,
    NameGroup,
    Origin,
    PortRange,
    Rule,
    ServerName,
    Snapshot,
)
from parsers.errors import ParseError
from parsers.facts import ClientHello, DnsQuery, EditKind, HeaderEdit, HttpRequest, KafkaRequest
from parsers.http.judging import Denial, Ruling
from proxy.datapath import ConnectionFacts, Redirected
from proxy.flows.model import Verdict
from proxy.worker.judges import (
    MAX_TOLD_HEADERS,
    ConnectionJudge,
    ConnectionRefused,
    DnsJudge,
    HttpJudge,
    JudgeTable,
    KafkaJudge,
    NameJudge,
    Note,
)
from proxy.worker.main import has_kafka_rules
from proxy.worker.options import NameOptions, Refusals

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


# -- DNS ---------------------------------------------------------------------------------------------------------------


def dns(number: int, *items: DnsRule, peer: int | None = SERVER_ID, protocol: int = 0) -> Rule:
    identities = None if peer is None else frozenset({peer})
    return Rule(origin(number), identities, (PortRange(protocol, 53, 53),), l7=items)


SHOP = DnsRule(name="shop.test")
WILD = DnsRule(pattern="*.wild.test", query_types=("A", "AAAA"))


ELSEWHERE = ConnectionFacts(CLIENT, 0, CLIENT_ID, SERVER_ID, Redirected.EGRESS, 3)
"""To a server on another node."""


def dns_judge(judges: JudgeTable, facts: ConnectionFacts = ELSEWHERE, *, tcp: bool) -> DnsJudge:
    judge = judges.judge(facts, 53) if tcp else judges.judge_datagrams(facts, 53)
    assert isinstance(judge, DnsJudge)
    return judge


def dns_note(
    judges: JudgeTable, name: str, kind: str = "A", facts: ConnectionFacts = ELSEWHERE, *, tcp: bool
) -> tuple[bool, Note]:
    ruling = dns_judge(judges, facts, tcp=tcp).rule_dns(DnsQuery(name, kind))
    assert isinstance(ruling.note, Note)
    return ruling.permit, ruling.note


@pytest.mark.parametrize("tcp", [False, True])
def test_dns_queries_are_judged_by_name_and_type(tcp: bool) -> None:
    judges = table(egress=DirectionPolicy(True, (dns(3, SHOP), dns(4, WILD))))
    assert dns_note(judges, "shop.test", "TXT", tcp=tcp) == (True, Note(Verdict.FORWARDED, Direction.EGRESS, 3, 5))
    assert dns_note(judges, "a.wild.test", "AAAA", tcp=tcp) == (True, Note(Verdict.FORWARDED, Direction.EGRESS, 4, 5))
    for name, kind, said in (
        ("other.test", "A", 'name "other.test" is not "shop.test"'),
        ("a.b.wild.test", "A", 'name "a.b.wild.test" is not "*.wild.test"'),
        ("a.wild.test", "TXT", "query type TXT is none of A, AAAA"),
    ):
        permit, why = dns_note(judges, name, kind, tcp=tcp)
        assert (permit, why.verdict, why.direction, why.rule) == (False, Verdict.DROPPED, Direction.EGRESS, 0)
        assert said in why.reason
        assert "policy-3" in why.reason


@pytest.mark.parametrize("tcp", [False, True])
def test_dns_queries_that_are_only_tried_out_pass_and_are_noted(tcp: bool) -> None:
    judges = table(egress=DirectionPolicy(True, (dns(3, SHOP),), audit=True))
    permit, why = dns_note(judges, "other.test", tcp=tcp)
    assert (permit, why.verdict) == (True, Verdict.AUDIT)
    assert "shop.test" in why.reason


@pytest.mark.parametrize("tcp", [False, True])
def test_both_ends_must_permit_a_query(tcp: bool) -> None:
    judges = table(
        ingress=DirectionPolicy(True, (dns(4, WILD, peer=CLIENT_ID),)),
        egress=DirectionPolicy(True, (dns(3, SHOP, DnsRule(name="a.wild.test")),)),
    )
    assert dns_note(judges, "a.wild.test", facts=LOCAL_PAIR, tcp=tcp)[0]
    assert dns_note(judges, "b.wild.test", facts=LOCAL_PAIR, tcp=tcp)[1].direction is Direction.EGRESS
    assert dns_note(judges, "shop.test", facts=LOCAL_PAIR, tcp=tcp)[1].direction is Direction.INGRESS


@pytest.mark.parametrize(
    "egress", [OPEN, DirectionPolicy(True, (dns(3, SHOP), Rule(origin(5), None, (PortRange(17, 53, 53),))))]
)
def test_datagrams_without_dns_rules_are_permitted(egress: DirectionPolicy) -> None:
    permit, why = dns_note(table(egress=egress), "anything.test", tcp=False)
    assert (permit, why.verdict) == (True, Verdict.FORWARDED)


@pytest.mark.parametrize(
    "wrong",
    [HttpRule(path="/a"), ServerName("a.test"), KafkaRule(topic="orders")],
)
def test_datagrams_under_rules_of_another_kind_are_refused(wrong: HttpRule | ServerName | KafkaRule) -> None:
    judges = table(egress=DirectionPolicy(True, (Rule(origin(3), None, (PortRange(0, 53, 53),), l7=(wrong,)),)))
    refused = judges.judge_datagrams(LOCAL_PAIR, 53)
    assert refused == ConnectionRefused(Direction.EGRESS, 0, "the rules of this port are not about DNS")


def test_rules_for_one_protocol_say_nothing_of_the_other() -> None:
    judges = table(egress=DirectionPolicy(True, (dns(3, SHOP, protocol=17),)))
    assert isinstance(judges.judge_datagrams(LOCAL_PAIR, 53), DnsJudge)
    assert isinstance(judges.judge(LOCAL_PAIR, 53), ConnectionRefused)
    tcp_only = table(egress=DirectionPolicy(True, (dns(3, SHOP, protocol=6),)))
    assert isinstance(tcp_only.judge_datagrams(LOCAL_PAIR, 53), ConnectionRefused)
    assert isinstance(tcp_only.judge(LOCAL_PAIR, 53), DnsJudge)


def test_datagrams_of_nobody_are_refused() -> None:
    nobody = ConnectionFacts(0, 0, 1, 2, Redirected.EGRESS, 3)
    assert isinstance(table().judge_datagrams(nobody, 53), ConnectionRefused)


def test_clients_with_the_same_rules_share_a_dns_judge() -> None:
    judges = table(egress=DirectionPolicy(True, (dns(3, SHOP, peer=None),)))
    other = replace(ELSEWHERE, destination_identity=WORLD_ID)
    assert judges.judge_datagrams(ELSEWHERE, 53) is judges.judge_datagrams(other, 53)


def test_what_no_dns_rule_gets_to_see() -> None:
    ruling = dns_judge(table(egress=DirectionPolicy(True, (dns(3, SHOP),))), tcp=False).refuse_dns("why")
    assert (ruling.permit, ruling.note) == (False, Note(Verdict.ERROR, Direction.EGRESS, 0, 5, "why"))


# -- names and what is asked for behind them ---------------------------------------------------------------------------

GROUP, OTHER_GROUP = FIRST_NAMED, FIRST_NAMED + 1
ALLOWED, NEIGHBOUR = "allowed.cdn.test", "neighbour.cdn.test"
OFF, TLS, ALL = NameOptions(bind_tls=False), NameOptions(), NameOptions(bind_host=True)


def named(number: int, group: int, *peers: FqdnPeer, l7: tuple[L7Rule, ...] | None, port: int = 443) -> Rule:
    """What one entry's `toFQDNs` makes."""
    selected = NameGroup(group, frozenset(peers))
    return Rule(origin(number), frozenset({group}), (PortRange(6, port, port),), l7=l7, names=selected)


def to_world(number: int, *, l7: tuple[L7Rule, ...] | None, port: int = 443) -> Rule:
    return Rule(origin(number), frozenset({WORLD_ID}), (PortRange(6, port, port),), l7=l7)


ANY_NAME = (ServerName("**"),)
ANY_PATH = (HttpRule(path="/.*"),)
BY_NAME = (
    named(3, GROUP, FqdnPeer(ALLOWED), l7=ANY_NAME),
    named(4, GROUP, FqdnPeer(ALLOWED), l7=ANY_PATH, port=80),
)


def bound(options: NameOptions, *rules: Rule, audit: bool = False, tried: bool = False) -> JudgeTable:
    """`audit`: audit mode; `tried`: only policies that are tried out make egress default deny."""
    made = table(egress=DirectionPolicy(True, rules or BY_NAME, audit=tried)).snapshot
    endpoints = {number: replace(item, audit=audit) for number, item in made.endpoints.items()}
    return JudgeTable(replace(made, endpoints=endpoints), Refusals(body=b"no\r\n"), options)


def asked(judges: JudgeTable, name: str, *groups: int, tls: bool = True) -> Note:
    """What is noted of TLS or HTTP with that name, to an address that these groups of names have opened."""
    return noted(judges.judge(TO_WORLD, 443 if tls else 80, frozenset(groups or (GROUP,))), name)


def noted(judge: ConnectionJudge | ConnectionRefused, name: str) -> Note:
    if isinstance(judge, NameJudge):
        ruled = judge.rule_name(ClientHello(name))
        note, permit = ruled.note, ruled.permit
    else:
        assert isinstance(judge, HttpJudge)
        ruling = judge.rule(HttpRequest(b"GET", b"/", name.encode("latin-1")))
        note, permit = ruling.note, ruling.permit
    assert isinstance(note, Note)
    assert permit is (note.verdict in (Verdict.FORWARDED, Verdict.AUDIT))
    return note


@pytest.mark.parametrize(
    ("options", "tls", "is_bound"),
    [
        (OFF, True, False),
        (TLS, True, True),
        (ALL, True, True),
        (OFF, False, False),
        (TLS, False, False),
        (ALL, False, True),
    ],
)
def test_a_neighbour_at_an_address_that_a_name_has_opened(options: NameOptions, tls: bool, is_bound: bool) -> None:
    judges = bound(options)
    for name in (ALLOWED, ALLOWED.upper(), *([] if tls else [f"{ALLOWED}.", f"{ALLOWED}:80", f"{ALLOWED}.:8080"])):
        assert asked(judges, name, tls=tls) == Note(Verdict.FORWARDED, Direction.EGRESS, 3 if tls else 4, 5)
    note = asked(judges, NEIGHBOUR, tls=tls)
    if not is_bound:
        assert note == Note(Verdict.FORWARDED, Direction.EGRESS, 3 if tls else 4, 5)
        return
    what = "server name" if tls else "host"
    reason = f'{what} "{NEIGHBOUR}" is none of the names that opened this address (toFQDNs {ALLOWED})'
    assert note == Note(Verdict.DROPPED, Direction.EGRESS, 0, 5, reason)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "cdn.test",
        f"x.{ALLOWED}",
        f"{ALLOWED}.evil.test",
        f"{NEIGHBOUR}:80",
        "192.0.2.1",
        "192.0.2.1:80",
        "[2001:db8::1]",
        "[2001:db8::1]:80",
        f"[{ALLOWED}]",
    ],
)
def test_hosts_that_are_not_the_name(host: str) -> None:
    note = asked(bound(ALL), host, tls=False)
    assert note.verdict is Verdict.DROPPED
    assert f"(toFQDNs {ALLOWED})" in note.reason


def test_the_same_request_is_not_remembered_for_another_host() -> None:
    judges = bound(ALL)
    verdicts = [asked(judges, name, tls=False).verdict for name in (ALLOWED, NEIGHBOUR, ALLOWED, NEIGHBOUR)]
    assert verdicts == [Verdict.FORWARDED, Verdict.DROPPED] * 2


def test_who_names_no_server_is_refused() -> None:
    note = asked(bound(TLS), "")
    assert (note.verdict, note.rule) == (Verdict.DROPPED, 0)
    assert asked(bound(OFF), "").verdict is Verdict.DROPPED, "as no rule permits it either"


def test_rules_refuse_before_names_do() -> None:
    rules = (
        named(3, GROUP, FqdnPeer(ALLOWED), l7=(ServerName(ALLOWED),)),
        named(4, GROUP, FqdnPeer(ALLOWED), l7=(HttpRule(method="PUT"),), port=80),
    )
    assert "is not" in asked(bound(ALL, *rules), NEIGHBOUR).reason
    assert 'method "GET"' in asked(bound(ALL, *rules), NEIGHBOUR, tls=False).reason


@pytest.mark.parametrize("tls", [True, False])
def test_an_address_that_is_also_allowed_without_names_is_not_bound(tls: bool) -> None:
    port, l7 = (443, ANY_NAME) if tls else (80, ANY_PATH)
    judges = bound(ALL, *BY_NAME, to_world(5, l7=l7, port=port))
    assert asked(judges, NEIGHBOUR, tls=tls).verdict is Verdict.FORWARDED
    anybody = Rule(origin(5), None, (PortRange(6, 1, 1024),), l7=l7)
    assert asked(bound(ALL, *BY_NAME, anybody), NEIGHBOUR, tls=tls).verdict is Verdict.FORWARDED
    # Another port is another matter, and a rule that denies allows nothing.
    elsewhere = to_world(5, l7=None, port=8443)
    assert asked(bound(ALL, *BY_NAME, elsewhere), NEIGHBOUR, tls=tls).verdict is Verdict.DROPPED
    tried = replace(to_world(5, l7=None, port=port), deny=True, audit=True)
    assert asked(bound(ALL, *BY_NAME, tried), NEIGHBOUR, tls=tls).verdict is Verdict.DROPPED


def test_a_group_that_has_also_prefixes_of_its_own() -> None:
    """`toFQDNs` beside `toCIDR` in one entry: what the prefixes reach is not bound."""
    both = replace(BY_NAME[0], identities=frozenset({GROUP, WORLD_ID}))
    assert asked(bound(ALL, both), NEIGHBOUR).verdict is Verdict.FORWARDED


def test_a_plain_rule_for_the_names_leaves_nothing_to_judge() -> None:
    judges = bound(ALL, *BY_NAME, named(5, GROUP, FqdnPeer(ALLOWED), l7=None))
    judge = judges.judge(TO_WORLD, 443, frozenset({GROUP}))
    assert isinstance(judge, HttpJudge)
    assert judge.rule(HttpRequest(b"GET", b"/", NEIGHBOUR.encode())).permit


@pytest.mark.parametrize("tls", [True, False])
def test_the_names_of_all_groups_that_opened_the_address_count(tls: bool) -> None:
    port, l7 = (443, ANY_NAME) if tls else (80, ANY_PATH)
    wild = named(5, OTHER_GROUP, FqdnPeer(pattern="n*.cdn.test"), FqdnPeer("other.test"), l7=l7, port=port)
    judges = bound(ALL, *BY_NAME, wild)
    both = (GROUP, OTHER_GROUP)
    for name in (ALLOWED, NEIGHBOUR, "other.test"):
        assert asked(judges, name, *both, tls=tls).verdict is Verdict.FORWARDED
    note = asked(judges, "x.cdn.test", *both, tls=tls)
    assert note.reason.endswith(f"(toFQDNs {ALLOWED}, n*.cdn.test, other.test)")
    assert asked(judges, NEIGHBOUR, GROUP, tls=tls).verdict is Verdict.DROPPED
    assert asked(judges, ALLOWED, OTHER_GROUP, tls=tls).verdict is Verdict.DROPPED
    # What another policy of before has opened does not count.
    assert asked(judges, NEIGHBOUR, GROUP, OTHER_GROUP + 1, tls=tls).verdict is Verdict.DROPPED


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("how", [{"audit": True}, {"tried": True}])
def test_a_wrong_name_that_is_only_tried_out_passes_and_is_noted(tls: bool, how: dict[str, bool]) -> None:
    note = asked(bound(ALL, **how), NEIGHBOUR, tls=tls)
    assert (note.verdict, note.direction, note.rule) == (Verdict.AUDIT, Direction.EGRESS, 0)
    assert f"(toFQDNs {ALLOWED})" in note.reason
    assert asked(bound(ALL, **how), ALLOWED, tls=tls).verdict is Verdict.FORWARDED


@pytest.mark.parametrize("groups", [(), (OTHER_GROUP,)])
def test_an_address_that_no_name_of_the_rules_has_opened_is_closed(groups: tuple[int, ...]) -> None:
    assert isinstance(bound(ALL).judge(TO_WORLD, 443, frozenset(groups)), ConnectionRefused)


def test_names_open_nothing_inside_the_cluster() -> None:
    inside = ConnectionFacts(CLIENT, 0, CLIENT_ID, SERVER_ID, Redirected.EGRESS, 3)
    assert isinstance(bound(ALL).judge(inside, 443, frozenset({GROUP})), ConnectionRefused)
    # Nor does a name bind what a label has opened.
    label = Rule(origin(5), frozenset({SERVER_ID}), (PortRange(6, 443, 443),), l7=ANY_NAME)
    judge = bound(ALL, *BY_NAME, label).judge(inside, 443, frozenset({GROUP}))
    assert isinstance(judge, NameJudge)
    assert judge.rule_name(ClientHello(NEIGHBOUR)).permit


def test_the_other_end_is_not_asked_about_names() -> None:
    """Which groups have opened an address is a matter of the client alone."""
    judges = table(ingress=DirectionPolicy(True, (named(3, GROUP, FqdnPeer(ALLOWED), l7=ANY_NAME),)))
    assert isinstance(judges.judge(FROM_WORLD, 443, frozenset({GROUP})), ConnectionRefused)


@given(st.data())
def test_the_proxy_and_explain_agree_about_names(data: st.DataObject) -> None:
    bind_names = data.draw(st.sampled_from(["off", "tls", "all"]))
    options = {"off": OFF, "tls": TLS, "all": ALL}[bind_names]
    tls, audit = data.draw(st.booleans()), data.draw(st.booleans())
    port = 443 if tls else 80
    l7 = st.sampled_from([ANY_NAME if tls else ANY_PATH, (ServerName(ALLOWED),) if tls else (HttpRule(method="PUT"),)])
    peers = [FqdnPeer(ALLOWED), FqdnPeer(pattern="*.cdn.test"), FqdnPeer("other.test"), FqdnPeer(pattern="*")]
    rules = [
        named(3, GROUP, *data.draw(st.sets(st.sampled_from(peers), min_size=1)), l7=data.draw(l7), port=port),
        named(4, OTHER_GROUP, *data.draw(st.sets(st.sampled_from(peers), min_size=1)), l7=data.draw(l7), port=port),
    ]
    if data.draw(st.booleans()):
        rules.append(to_world(5, l7=data.draw(st.one_of(l7, st.none())), port=port))
    looked_up = data.draw(st.sets(st.sampled_from([ALLOWED, NEIGHBOUR, "other.test", "far.example"])))
    name = data.draw(st.sampled_from([ALLOWED, NEIGHBOUR, "other.test", "far.example", "", "Other.TEST"]))
    judges = bound(options, *rules, audit=audit)
    groups = name_matcher(judges.snapshot.policies[CLIENT].egress)
    opened = frozenset(group for item in looked_up for group in groups.groups(item))
    source = Party("client", CLIENT_ID, judges.snapshot.endpoints[CLIENT])
    request = ClientHello(name) if tls else HttpRequest(b"GET", b"/", name.encode())
    question = Question(source, Party("there", WORLD_ID, names=tuple(looked_up)), 6, port, request)
    said = explain(World(judges.snapshot, (), bind_names), question)
    judge = judges.judge(TO_WORLD, port, opened)
    if isinstance(judge, ConnectionRefused):
        assert said.egress.verdict == "deny"
    elif audit and not opened and len(rules) == 2:
        # The kernel has reported it.
        assert said.egress.verdict == "audit"
    elif tls and isinstance(judge, HttpJudge):
        # A plain rule, behind which nothing is looked at.
        assert said.egress.verdict == "allow"
    else:
        note = noted(judge, name)
        assert said.egress.verdict == {Verdict.FORWARDED: "allow", Verdict.DROPPED: "deny"}.get(note.verdict, "audit")
        if "none of the names" in note.reason:
            assert said.egress.note.removeprefix("passes only because of audit: ") == note.reason
