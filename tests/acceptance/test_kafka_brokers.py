"""Two genuine brokers that reach each other through Penstock: replicas, transactions across them, share groups."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from tests.acceptance.kafka.broker import LIBS
from tests.acceptance.kafka.sides import ROOT, Row, Side, compiled, rule_side

pytestmark = pytest.mark.acceptance

OPTIONS = ("--brokers 2", "--brokers 2 --number 2 --controller broker.shop.pod.cluster.local")
AMONG_BROKERS = """
  - fromEndpoints: [{matchLabels: {app: broker}}]
    toPorts:
    - ports: [{port: "9093", protocol: TCP}]
    - ports: [{port: "9092", protocol: TCP}]
      rules: {kafka: [{}]}
"""
"""The controller's port is not Kafka's to clients. What brokers ask of each other is not for rules with topics."""
CLIENTS = ("java", "confluent-kafka")
ALLOWED_CASES = (
    "produce allowed",
    "transaction",
    "transaction with offsets",
    "consume allowed",
    "group protocol allowed",
    "describe allowed",
)


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    if not LIBS.is_dir():
        pytest.fail("Apache Kafka is not there: `make acceptance` installs it")
    classes = compiled(tmp_path_factory.mktemp("classes"))
    folder = tmp_path_factory.mktemp("brokers")
    with rule_side("kafka-brokers", folder, classes, OPTIONS, AMONG_BROKERS) as side:
        yield side


def test_every_record_reaches_both_brokers(side: Side) -> None:
    """Acknowledged by all replicas, and there are two."""
    said = side.lab.exec("shop/admin", ["kcat", "-b", side.bootstrap, "-L", "-t", "t1"], timeout=30)
    assert "2 brokers" in said.stdout
    replicas = [line for line in said.stdout.splitlines() if "isrs:" in line]
    assert len(replicas) == 1
    assert sorted(replicas[0].split("isrs:")[1].strip().split(",")) == ["1", "2"]


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_of_two_brokers(side: Side, client: str) -> None:
    """Coordinators and leaders are on either; a transaction's end is told from one to the other."""
    outcomes = side.run_client(client, "both", (*ALLOWED_CASES, "produce one by one"))
    print(*(f"{row.client}, {row.case}: {outcome}" for row, outcome in outcomes.items()), sep="\n")
    mixed = outcomes.pop(Row(client, "both", "produce one by one"))
    assert re.fullmatch("ok, topic_?authorization(_failed)?, ok", mixed.lower())
    assert set(outcomes.values()) <= {"ok", "ok, ok, ok", "ok, ok, ok, ok", "commit ok, t1"}


def test_share_groups_of_two_brokers(side: Side) -> None:
    """Where chance has it so, their state is kept by one broker for the other."""
    outcomes = side.run_client("java", "consumer", ["share allowed"])
    assert outcomes[Row("java", "consumer", "share allowed")] == "acknowledge ok, t1"


def test_what_brokers_ask_of_each_other(side: Side) -> None:
    """A rule without fields lets it pass; the error is the other broker's: it does not know such a group."""
    command = [sys.executable, "-m", "tests.acceptance.kafka.peer", side.bootstrap]
    told = side.lab.exec("shop/broker-2", command, cwd=ROOT, timeout=30)
    assert told.returncode == 0, told.stderr
    offered, *answers = told.stdout.splitlines()
    assert {str(key) for key in (27, *range(83, 88))} <= set(offered.split())
    assert [line.split()[0] for line in answers] == ["84", "87"]
    assert "31" not in {code for line in answers for code in line.split()[1:]}, answers
