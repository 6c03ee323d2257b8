"""Seven Kafka clients see the same through Penstock's rules as with a genuine broker's own ACLs: `make acceptance`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.kafka.broker import LIBS
from tests.acceptance.kafka.sides import CASES, STAYING, Outcomes, Row, acl_side, compiled, rule_side

pytestmark = pytest.mark.acceptance

NOTHING_TO_COMPARE = "-"


@dataclass(frozen=True, slots=True)
class Different:
    """What is meant to differ, and what it is through the rules."""

    clients: tuple[str, ...]
    identity: str
    case: str
    through_rules: str
    why: str


PRODUCER_OFFSETS = "the role produce has a transaction's offsets, too; ACLs want READ on group and topic for them"
NO_LIST_OFFSETS = "the role produce has no ListOffsets, which ACLs give with WRITE: here it never comes to a Fetch"
KNOWN: tuple[Different, ...] = (
    Different(
        ("kafka-python", "confluent-kafka", "aiokafka", "java"),
        *("producer", "transaction with offsets", "ok, ok, ok, ok", PRODUCER_OFFSETS),
    ),
    Different(("kafkajs",), "producer", "transaction with offsets", "ok, ok, ok, ok, ok", PRODUCER_OFFSETS),
    Different(("aiokafka",), "producer", "consume assigned", "nothing", NO_LIST_OFFSETS),
)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not LIBS.is_dir():
        pytest.fail("Apache Kafka is not there: `make acceptance` installs it")
    return compiled(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def with_acls(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    with acl_side("kafka-acls", tmp_path_factory.mktemp("acls"), classes) as side:
        return side.run()


@pytest.fixture(scope="module")
def with_rules(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    with rule_side("kafka-rules", tmp_path_factory.mktemp("rules"), classes) as side:
        return side.run()


def known(row: Row) -> Different | None:
    return next(
        (one for one in KNOWN if row.client in one.clients and (one.identity, one.case) == (row.identity, row.case)),
        None,
    )


def verdict(row: Row, acls: str, rules: str) -> str:
    """A cell of the table."""
    if acls == rules:
        if acls == NOTHING_TO_COMPARE:
            return NOTHING_TO_COMPARE
        refused = set(_words(acls)) - {"ok"}
        return "same refusal" if refused else "ok"
    different = known(row)
    return "as listed" if different is not None and rules == different.through_rules else "DIFFERENT"


def _words(outcome: str) -> list[str]:
    plain = outcome.replace("commit ok", "ok").replace("acknowledge ok", "ok").split(", ")
    return [word for word in plain if word not in ("t1", "0", "error 0", "closed 0", "secret")]


def table(acls: Outcomes, rules: Outcomes) -> Iterator[str]:
    """Cases down, clients across; one table for each identity, and what differs below."""
    clients = list(dict.fromkeys(row.client for row in acls))
    for identity, cases in CASES.items():
        yield f"\n{'as ' + identity:28}" + "".join(f"{client:17}" for client in clients)
        for case in cases:
            rows = [Row(client, identity, case) for client in clients]
            yield f"{case:28}" + "".join(f"{verdict(row, acls[row], rules[row]):17}" for row in rows)
    for row in acls:
        if acls[row] != rules[row]:
            different = known(row)
            why = f" ({different.why})" if different else ""
            yield f"{row.client} as {row.identity}, {row.case}: ACLs {acls[row]!r}, rules {rules[row]!r}{why}"


def test_allowed_and_forbidden_are_what_they_are_called(with_acls: Outcomes) -> None:
    """The side that is compared with does what it is for."""
    for row, outcome in with_acls.items():
        if row.identity == "both" and outcome != NOTHING_TO_COMPARE:
            if row.case in ("produce allowed", "produce idempotent"):
                assert outcome == "ok", row
            elif row.case == "produce forbidden":
                assert "authorization" in outcome.lower(), row
            elif row.case in ("consume allowed", "group protocol allowed", "share allowed"):
                assert "t1" in outcome, row
            elif row.case == "list topics":
                assert outcome == "t1", row
            elif row.case in STAYING:
                assert outcome == "closed 0", row


def test_every_client_sees_what_it_sees_with_acls(with_acls: Outcomes, with_rules: Outcomes) -> None:
    print("\n".join(table(with_acls, with_rules)))
    cells = {row: verdict(row, with_acls[row], with_rules[row]) for row in with_acls}
    assert {row: (with_acls[row], with_rules[row]) for row, cell in cells.items() if cell == "DIFFERENT"} == {}


def test_nothing_hangs(with_acls: Outcomes, with_rules: Outcomes) -> None:
    for outcomes in (with_acls, with_rules):
        assert [row for row, outcome in outcomes.items() if "timeout" in outcome.lower()] == []


def test_what_is_listed_as_different_is(with_acls: Outcomes, with_rules: Outcomes) -> None:
    rows = {Row(client, one.identity, one.case) for one in KNOWN for client in one.clients}
    assert {row for row in rows if with_acls[row] == with_rules[row]} == set()


def test_no_refusal_ends_a_connection(with_rules: Outcomes) -> None:
    told = {row: outcome for row, outcome in with_rules.items() if row.case in STAYING and outcome != "-"}
    assert len(told) >= 12
    assert {row: outcome for row, outcome in told.items() if outcome != "closed 0"} == {}
