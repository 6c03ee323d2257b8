"""Which answers open which addresses, for whom and until when, and what keeps an answer back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from struct import pack
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.identity import FIRST_NAMED
from config.policy.resolved import DirectionPolicy, EndpointPolicy, FqdnPeer, NameGroup, Origin, Rule
from parsers.dns.message import DnsError, Query, read_query
from proxy.datapath import BpfError, NamesMap
from proxy.flows import wire
from proxy.worker import openings
from proxy.worker.openings import GRACE_S, Opener, Openings, ProtectedAddresses
from proxy.worker.options import NameOptions
from proxy.worker.reports import Reports
from tests.proxy.names.fake import FakeNames

Network = IPv4Network | IPv6Network
A, CNAME, AAAA, HTTPS = 1, 5, 28, 65
ENDPOINT, NEIGHBOUR = 7, 8
SHOP, WILD, BOTH = FIRST_NAMED, FIRST_NAMED + 1, FIRST_NAMED + 2
BOOTTIME = 1000
SECOND = 1_000_000_000
OWNER = b"\xc0\x0c"
NODE = tuple(map(ip_network, ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10")))


def packed(text: str) -> bytes:
    return ip_address(text).packed


def labels(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label) + b"\0"


def asked(name: str = "shop.test", kind: int = A, number: int = 1) -> Query:
    return read_query(pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels(name) + pack(">HH", kind, 1))


def record(kind: int, data: bytes, ttl: int = 60, owner: bytes = OWNER) -> bytes:
    return owner + pack(">HHIH", kind, 1, ttl, len(data)) + data


def address(text: str, ttl: int = 60, owner: bytes = OWNER) -> bytes:
    found = packed(text)
    return record(A if len(found) == 4 else AAAA, found, ttl, owner)


def answer(query: Query, *records: bytes, rcode: int = 0) -> bytes:
    return query.id + pack(">HHHHH", 0x8180 | rcode, 1, len(records), 0, 0) + query.question + b"".join(records)


def group(identity: int, *peers: FqdnPeer) -> Rule:
    return Rule(Origin(1, "", "", "", ""), frozenset({identity}), None, names=NameGroup(identity, frozenset(peers)))


POLICY = EndpointPolicy(
    DirectionPolicy(False),
    DirectionPolicy(
        True,
        (
            group(SHOP, FqdnPeer("shop.test")),
            group(WILD, FqdnPeer(pattern="*.wild.test")),
            group(BOTH, FqdnPeer("shop.test"), FqdnPeer("a.wild.test")),
        ),
    ),
)


class Worker:
    """What one worker has: the map, a clock and an outbox."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
        self.map = FakeNames()
        self.writes = 0
        self.waited = 0.0
        self.now = 100 * SECOND
        self.reports = Reports(0, [], [], 0)
        self.options = replace(NameOptions(protected=NODE), **options)  # type: ignore[arg-type]
        monkeypatch.setattr(openings, "monotonic_ns", lambda: self.now)
        monkeypatch.setattr(openings, "boottime", lambda: BOOTTIME + self.now // SECOND - 100)
        real = self.map.open

        def counted(*arguments: object) -> None:
            self.writes += 1
            self.waited = cast("float", arguments[-1])
            real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(self.map, "open", counted)
        self.shared = Openings(cast("NamesMap", self.map), self.options, self.reports)
        self.opener = self.of(ENDPOINT)

    def of(self, endpoint: int, policy: EndpointPolicy = POLICY) -> Opener:
        return Opener(self.shared, endpoint, policy)

    def open(self, name: str, *texts: str, ttl: int = 60, number: int = 1) -> bool:
        """One answer with these addresses to the pod's question."""
        query = asked(name, AAAA if texts and ":" in texts[0] else A, number)
        told = answer(query, *(address(text, ttl) for text in texts))
        passed = self.opener.open(query, told)
        assert passed in (b"", told[2:])
        return bool(passed)

    def after(self, seconds: float) -> Worker:
        self.now += int(seconds * SECOND)
        return self

    def learnt(self) -> list[tuple[str, list[str], int]]:
        """What the agent is told: name, addresses, TTL."""
        return [(item.name, [str(ip_address(one)) for one in item.addresses], item.ttl) for item in self._learnt()]

    def _learnt(self) -> list[wire.Learnt]:
        batch = self.reports.take()
        return [] if batch is None else batch.learnt

    @property
    def entries(self) -> dict[str, dict[int, int]]:
        """What is open for the endpoint: address → group → until when."""
        return {str(ip_address(one)): slots for (number, one), slots in self.map.entries.items() if number == ENDPOINT}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


# -- protected addresses -----------------------------------------------------------------------------------------------


def near(network: Network) -> list[bytes]:
    """The ends of a network, and what is right outside."""
    first, last = int(network.network_address), int(network.broadcast_address)
    size = network.max_prefixlen // 8
    return [
        number.to_bytes(size, "big") for number in (first - 1, first, last, last + 1) if 0 <= number < 1 << (8 * size)
    ]


def _networks() -> st.SearchStrategy[Network]:
    # Few distinct bits, so that networks nest and touch.
    v4 = st.tuples(st.sampled_from([0, 0x0A000000, 0x0A000080, 0x0A010000, 0xFFFFFFFF]), st.integers(0, 32))
    high = [0, 1, 0xFD << 120, (0xFD << 120) + (1 << 64), (1 << 128) - 1]
    v6 = st.tuples(st.sampled_from(high), st.integers(0, 128))
    return st.one_of(
        v4.map(lambda item: IPv4Network(item, strict=False)), v6.map(lambda item: IPv6Network(item, strict=False))
    )


@given(
    st.lists(_networks(), max_size=12),
    st.lists(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)), max_size=8),
)
def test_protected_addresses_are_those_in_any_of_the_networks(networks: list[Network], others: list[bytes]) -> None:
    protected = ProtectedAddresses(networks)
    for one in [*(text for network in networks for text in near(network)), *others]:
        found = ip_address(one)
        expected = any(found.version == network.version and found in network for network in networks)
        assert (one in protected) is expected, found


def test_nested_and_touching_networks() -> None:
    texts = ["10.0.0.0/8", "10.0.0.0/24", "10.255.255.255/32", "11.0.0.0/8", "10.0.0.0/8", "fd00::/8", "fd00::/64"]
    protected = ProtectedAddresses(map(ip_network, texts))
    for text in ("10.0.0.0", "10.0.1.0", "10.255.255.255", "11.0.0.0", "11.255.255.255", "fd00::1", "fdff::"):
        assert packed(text) in protected
    for text in ("9.255.255.255", "12.0.0.0", "fc00::", "fe00::", "::"):
        assert packed(text) not in protected


def test_nothing_is_protected_by_nothing() -> None:
    protected = ProtectedAddresses(())
    assert packed("127.0.0.1") not in protected
    assert packed("::1") not in protected


def test_all_of_one_family() -> None:
    protected = ProtectedAddresses([ip_network("0.0.0.0/0")])
    assert packed("255.255.255.255") in protected
    assert packed("0.0.0.0") in protected
    assert packed("::") not in protected


# -- what is opened ----------------------------------------------------------------------------------------------------


def test_an_address_is_open_for_all_groups_of_the_name(worker: Worker) -> None:
    assert worker.open("shop.test", "192.0.2.1", "192.0.2.2")
    until = BOOTTIME + 60 + GRACE_S
    assert worker.entries == {"192.0.2.1": {SHOP: until, BOTH: until}, "192.0.2.2": {SHOP: until, BOTH: until}}
    assert worker.learnt() == [("shop.test", ["192.0.2.1", "192.0.2.2"], 60)]
    assert worker.open("b.wild.test", "2001:db8::1")
    assert worker.entries["2001:db8::1"] == {WILD: until}
    assert worker.open("a.wild.test", "192.0.2.1")
    assert set(worker.entries["192.0.2.1"]) == {SHOP, BOTH, WILD}


def test_letters_of_either_case(worker: Worker) -> None:
    assert worker.open("ShOp.TEST", "192.0.2.1")
    assert set(worker.entries["192.0.2.1"]) == {SHOP, BOTH}
    assert worker.learnt() == [("shop.test", ["192.0.2.1"], 60)]


def test_it_is_open_for_the_one_who_asked(worker: Worker) -> None:
    query = asked()
    assert worker.of(NEIGHBOUR).open(query, answer(query, address("192.0.2.1")))
    assert worker.entries == {}
    assert set(worker.map.entries) == {(NEIGHBOUR, packed("192.0.2.1"))}


@pytest.mark.parametrize(
    ("ttl", "min_ttl", "expected"), [(60, 0, 60), (0, 0, 0), (1, 30, 30), (30, 30, 30), (31, 30, 31), (1 << 31, 0, 0)]
)
def test_for_how_long(monkeypatch: pytest.MonkeyPatch, ttl: int, min_ttl: int, expected: int) -> None:
    worker = Worker(monkeypatch, min_ttl=min_ttl)
    assert worker.open("shop.test", "192.0.2.1", ttl=ttl)
    assert worker.entries["192.0.2.1"][SHOP] == BOOTTIME + expected + GRACE_S
    # The agent knows the setting itself.
    assert worker.learnt() == [("shop.test", ["192.0.2.1"], ttl if ttl < 1 << 31 else 0)]


def test_the_least_ttl_on_the_way_counts(worker: Worker) -> None:
    query = asked()
    alias = record(CNAME, labels("c.test"), 7)
    assert worker.opener.open(query, answer(query, alias, address("192.0.2.1", 90, labels("c.test"))))
    assert worker.entries["192.0.2.1"][SHOP] == BOOTTIME + 7 + GRACE_S


def test_what_was_open_for_longer_stays_so(worker: Worker) -> None:
    assert worker.open("shop.test", "192.0.2.1", ttl=600)
    assert worker.after(10).open("shop.test", "192.0.2.1", ttl=1)
    assert worker.entries["192.0.2.1"][SHOP] == BOOTTIME + 600 + GRACE_S


def test_hints_of_https_records_open_as_well(worker: Worker) -> None:
    query = asked(kind=HTTPS)
    hint = pack(">H", 1) + b"\0" + pack(">HH", 4, 4) + packed("192.0.2.1")
    assert worker.opener.open(query, answer(query, record(HTTPS, hint)))
    assert set(worker.entries) == {"192.0.2.1"}


def test_a_name_that_no_entry_has_opens_nothing_and_is_reported(worker: Worker) -> None:
    for name in ("other.test", "wild.test", "a.b.wild.test", "shop.test.evil.org"):
        assert worker.open(name, "192.0.2.1")
        assert worker.learnt() == [(name, ["192.0.2.1"], 60)]
    assert (worker.entries, worker.writes) == ({}, 0)


@pytest.mark.parametrize(
    "records",
    [
        (),
        (record(16, b"\1x"),),
        (address("2001:db8::1"),),
        (address("192.0.2.1", owner=labels("other.test")),),
    ],
)
def test_an_answer_that_gives_the_name_no_address_opens_and_tells_nothing(
    worker: Worker, records: tuple[bytes, ...]
) -> None:
    query = asked()
    assert worker.opener.open(query, answer(query, *records))
    assert worker.opener.open(query, answer(query, address("192.0.2.1"), rcode=3))
    assert (worker.entries, worker.learnt()) == ({}, [])


def test_an_endpoint_without_policy_opens_nothing(worker: Worker) -> None:
    query, open_policy = asked(), EndpointPolicy(DirectionPolicy(False), DirectionPolicy(False))
    assert worker.of(ENDPOINT, open_policy).open(query, answer(query, address("192.0.2.1")))
    assert worker.entries == {}


def test_names_of_ingress_rules_open_nothing(worker: Worker) -> None:
    query = asked()
    assert worker.of(ENDPOINT, EndpointPolicy(POLICY.egress, DirectionPolicy(True))).open(
        query, answer(query, address("192.0.2.1"))
    )
    assert worker.entries == {}


# -- what is left out --------------------------------------------------------------------------------------------------


def test_protected_addresses_are_left_out_and_counted(worker: Worker) -> None:
    assert worker.open("shop.test", "127.0.0.1", "192.0.2.1", "169.254.169.254")
    assert set(worker.entries) == {"192.0.2.1"}
    assert worker.reports.counters["names.protected"] == 2
    assert worker.learnt() == [("shop.test", ["192.0.2.1"], 60)]


def test_an_answer_of_protected_addresses_goes_on_and_opens_nothing(worker: Worker) -> None:
    assert worker.open("shop.test", "fe80::1", "::1")
    assert (worker.entries, worker.writes) == ({}, 0)
    assert worker.reports.counters["names.protected"] == 2
    assert worker.learnt() == []


@pytest.mark.parametrize(("count", "is_cut"), [(3, False), (4, True), (50, True)])
def test_a_name_has_so_many_addresses_and_no_more(monkeypatch: pytest.MonkeyPatch, count: int, is_cut: bool) -> None:
    worker = Worker(monkeypatch, addresses_per_name=3)
    assert worker.open("shop.test", "127.0.0.1", *(f"192.0.2.{number}" for number in range(count)))
    assert list(worker.entries) == [f"192.0.2.{number}" for number in range(3)]
    assert worker.reports.counters["limits.tofqdns_endpoint_max_ip_per_hostname"] == is_cut
    assert worker.learnt() == [("shop.test", [f"192.0.2.{number}" for number in range(3)], 60)]


def test_equal_answers_are_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever counts them by their bytes has to look at those once."""
    worker = Worker(monkeypatch)
    one, two = (asked(number=number) for number in (1, 2))
    first = worker.opener.open(one, answer(one, address("192.0.2.1")))
    assert worker.opener.open(two, answer(two, address("192.0.2.1"))) is first
    assert worker.after(10).opener.open(two, answer(two, address("192.0.2.1"))) is first
    other = answer(two, address("192.0.2.2"))
    assert worker.opener.open(two, other) == other[2:]


# -- what keeps an answer back -----------------------------------------------------------------------------------------


def test_an_endpoint_opens_so_many_addresses_in_a_second_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, addresses_per_endpoint=5)
    assert worker.open("a.wild.test", "192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert worker.open("b.wild.test", "192.0.2.4", "192.0.2.5")
    assert not worker.open("c.wild.test", "192.0.2.6")
    assert worker.reports.counters["limits.dns_max_addresses"] == 1
    assert len(worker.entries) == 5
    assert [name for name, _, _ in worker.learnt()] == ["a.wild.test", "b.wild.test"]
    # What opens nothing is none of them, and others have their own.
    assert worker.open("other.test", "192.0.2.6")
    query = asked("c.wild.test")
    assert worker.of(NEIGHBOUR).open(query, answer(query, address("192.0.2.6")))
    assert worker.after(1).open("c.wild.test", "192.0.2.6"), "it was not remembered"
    assert "192.0.2.6" in worker.entries


def test_more_than_a_second_allows_never_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, addresses_per_endpoint=2)
    for _ in range(2):
        assert not worker.after(1).open("shop.test", "192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert (worker.entries, worker.learnt()) == ({}, [])


@pytest.mark.parametrize(
    ("error", "counter"),
    [
        (TimeoutError("the map of names is locked by another process"), "limits.tofqdns_proxy_response_max_delay"),
        (None, "limits.bpf_names_map_max"),
        (BpfError("what the kernel says"), "names.failed"),
    ],
)
def test_an_answer_that_can_not_be_opened_is_kept_back(worker: Worker, error: Exception | None, counter: str) -> None:
    if error is None:
        worker.map.entries[ENDPOINT, packed("192.0.2.1")] = dict.fromkeys(range(1, 9), 9)
    worker.map.error = error
    before = dict(worker.entries)
    for tries in (1, 2):
        assert not worker.open("shop.test", "192.0.2.1")
        assert worker.reports.counters[counter] == tries, "nothing of it is remembered"
    assert worker.entries == before
    assert worker.learnt() == []
    worker.map.error = None
    worker.map.entries.clear()
    assert worker.open("shop.test", "192.0.2.1")
    assert "192.0.2.1" in worker.entries


def test_it_waits_for_as_long_as_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, max_delay_s=0.25)
    assert worker.open("shop.test", "192.0.2.1")
    assert worker.waited == 0.25


@pytest.mark.parametrize(
    "broken",
    [
        lambda query: answer(query, address("192.0.2.1"))[:-1],
        lambda query: answer(query, address("192.0.2.1")) + b"x",
        lambda query: answer(query, address("192.0.2.1"), record(A, bytes(5))),
        lambda query: answer(query, address("192.0.2.1"), record(CNAME, query.question[:-4])),
        lambda query: answer(asked("other.test"), address("192.0.2.1")),
        lambda query: answer(asked(kind=AAAA), address("2001:db8::1")),
    ],
)
def test_broken_answers_open_nothing(worker: Worker, broken: object) -> None:
    query = asked()
    for _ in range(2):
        with pytest.raises(DnsError):
            worker.opener.open(query, broken(query))  # type: ignore[operator]
    assert (worker.entries, worker.writes, worker.learnt()) == ({}, 0, [])


# -- the same again ----------------------------------------------------------------------------------------------------


def test_the_same_answer_is_not_written_again_for_a_moment(worker: Worker) -> None:
    for number in range(5):
        assert worker.open("shop.test", "192.0.2.1", number=number)
    assert worker.writes == 1
    assert worker.learnt() == [("shop.test", ["192.0.2.1"], 60)]
    assert worker.after(1.9).open("shop.test", "192.0.2.1")
    assert (worker.writes, worker.learnt()) == (1, [])
    assert worker.after(0.2).open("shop.test", "192.0.2.1")
    assert worker.writes == 2
    assert worker.entries["192.0.2.1"][SHOP] == BOOTTIME + 2 + 60 + GRACE_S
    assert worker.learnt() == [("shop.test", ["192.0.2.1"], 60)]


@pytest.mark.parametrize(
    ("ttl", "texts"), [(61, ("192.0.2.1",)), (59, ("192.0.2.1",)), (60, ("192.0.2.1", "192.0.2.2"))]
)
def test_another_answer_is_written(worker: Worker, ttl: int, texts: tuple[str, ...]) -> None:
    assert worker.open("shop.test", "192.0.2.1")
    assert worker.open("shop.test", *texts, ttl=ttl)
    assert worker.writes == 2
    assert set(worker.entries) == set(texts)
    assert worker.open("shop.test", "192.0.2.1"), "only the last one is remembered"
    assert worker.writes == 3


def test_another_question_is_another_answer(worker: Worker) -> None:
    for name in ("shop.test", "a.wild.test", "b.wild.test"):
        assert worker.open(name, "192.0.2.1")
    assert worker.writes == 3


def test_what_was_closed_before_its_time_is_opened_again(worker: Worker) -> None:
    assert worker.open("shop.test", "192.0.2.1")
    worker.map.entries.clear()
    assert worker.open("shop.test", "192.0.2.1")
    assert worker.entries == {}, "nobody has told the worker"
    worker.map.cut()
    assert worker.open("shop.test", "192.0.2.1")
    assert "192.0.2.1" in worker.entries
    assert worker.open("shop.test", "192.0.2.1")
    assert worker.writes == 2


def test_a_new_policy_remembers_nothing(worker: Worker) -> None:
    assert worker.open("other.test", "192.0.2.1")
    rules = (group(SHOP, FqdnPeer("other.test")),)
    worker.opener = worker.of(ENDPOINT, EndpointPolicy(DirectionPolicy(False), DirectionPolicy(True, rules)))
    assert worker.open("other.test", "192.0.2.1")
    assert set(worker.entries["192.0.2.1"]) == {SHOP}


def test_what_another_endpoint_was_told_opens_nothing_for_this_one(worker: Worker) -> None:
    query = asked()
    told = answer(query, address("192.0.2.1"))
    neighbour = worker.of(NEIGHBOUR)
    assert neighbour.open(query, told)
    assert worker.opener.open(query, told)
    assert set(worker.map.entries) == {(ENDPOINT, packed("192.0.2.1")), (NEIGHBOUR, packed("192.0.2.1"))}


def test_long_answers_are_not_remembered(worker: Worker) -> None:
    many = [f"192.0.2.{number}" for number in range(60)]
    for _ in range(2):
        assert worker.open("shop.test", *many)
    assert worker.writes == 2


def test_what_is_remembered_is_bounded(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openings, "MAX_MEMO", 8)
    openers = [worker.of(endpoint) for endpoint in (30, 31, 32)]
    queries = [asked(f"n{number}.wild.test") for number in range(100)]
    for number, query in enumerate(queries, 1):
        for opener in openers:
            for _ in range(2):
                assert opener.open(query, answer(query, address("192.0.2.1")))
        assert worker.writes == 3 * number, "what was asked a moment ago is still there"
    for query in reversed(queries):
        for opener in openers:
            assert opener.open(query, answer(query, address("192.0.2.1")))
    assert 2 * 300 - 8 <= worker.writes < 2 * 300, "of all endpoints, the last few were there"


def test_the_same_question_again_takes_no_more_room(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openings, "MAX_MEMO", 2)
    assert worker.open("a.wild.test", "192.0.2.1")
    for ttl in range(100):
        assert worker.open("shop.test", "192.0.2.1", ttl=ttl)
    before = worker.writes
    assert worker.open("a.wild.test", "192.0.2.1")
    assert worker.writes == before
