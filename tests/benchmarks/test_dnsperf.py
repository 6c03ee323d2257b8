"""What dnsperf prints, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.dns import dnsperf
from benchmarks.dns.names import CLOSED, COUNT, OPEN, V6_EVERY, spread, write_questions, write_zone
from benchmarks.dns.subjects import PENSTOCK, WAYS, Way, policy
from benchmarks.failure import BenchmarkError
from config.policy.dns_names import name_fault

PRINTED = """\
DNS Performance Testing Tool
Version 2.10.0

[Status] Command line: dnsperf -s 10.0.0.2 -p 53 -d /tmp/q -v -W -l 2
[Status] Sending queries (to 10.0.0.2:53)
[Status] Started at: Mon Nov 30 20:55:07 2026
[Status] Stopping after 2.000000 seconds
{answers}> T n00006.closed.bench A
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         101
  Queries completed:    100 (99.01%)
  Queries lost:         1 (0.99%)

  Response codes:       NOERROR 100 (100.00%)
  Average packet size:  request 37, response 65
  Run time (s):         2.500000
  Queries per second:   40.000000

  Average Latency (s):  0.000992 (min 0.000027, max 0.003878)
  Latency StdDev (s):   0.000321

"""


def printed(*answers: str) -> str:
    return PRINTED.format(answers="".join(f"> {answer}\n" for answer in answers))


def test_percentiles_are_of_the_single_answers() -> None:
    answers = [f"NOERROR n{number:05}.closed.bench A {number * 1e-6:.6f}" for number in range(99, -1, -1)]
    found = dnsperf.figures(printed(*answers))
    assert (found.answered, found.lost, found.seconds) == (100, 1, 2.5)
    assert [found.p50_us, found.p99_us] == pytest.approx([50, 99])


def test_an_answer_that_is_no_address_fails_the_benchmark() -> None:
    answers = ["NOERROR a.bench A 0.000010", "SERVFAIL b.bench AAAA 0.000010", "SERVFAIL c.bench A 0.000010"]
    with pytest.raises(BenchmarkError, match="2 SERVFAIL among 3 answers"):
        dnsperf.figures(printed(*answers))


def test_no_answer_fails_the_benchmark() -> None:
    with pytest.raises(BenchmarkError, match="no question was answered"):
        dnsperf.figures(printed())


def test_a_run_that_was_cut_off_fails_the_benchmark() -> None:
    with pytest.raises(BenchmarkError, match="dnsperf printed"):
        dnsperf.figures("> NOERROR a.bench A 0.000010\n")


def test_codes_are_counted() -> None:
    assert dnsperf.codes(printed("REFUSED forbidden.bench A 0.000031")) == {"REFUSED": 1}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_names_of_a_way_are_distinct_and_have_both_kinds_of_address(way: Way, tmp_path: Path) -> None:
    for names in (way.hot, way.distinct):
        assert len(set(names)) == len(names)
        write_questions(tmp_path / "q", names)
        kinds = [line.split()[1] for line in (tmp_path / "q").read_text(encoding="ascii").splitlines()]
        if len(names) > 1:
            assert 1 / (2 * V6_EVERY) < kinds.count("AAAA") / len(kinds) < 2 / V6_EVERY


def test_every_name_is_in_the_zone(tmp_path: Path) -> None:
    write_zone(tmp_path / "zone")
    lines = [line.split() for line in (tmp_path / "zone").read_text(encoding="ascii").splitlines()]
    owners = [line[0].removesuffix(".") for line in lines if line[1:2] == ["A"]]
    assert {*CLOSED, *OPEN} <= set(owners)
    addresses = [line[2] for line in lines if line[1:2] in (["A"], ["AAAA"])]
    assert len(set(addresses)) == len(addresses)


def test_the_policy_has_a_rule_for_each_name() -> None:
    to_ports = policy()["spec"]["egress"][0]["toPorts"]
    assert [len(one["rules"]["dns"]) for one in to_ports] == [len(way.names) for way in PENSTOCK]
    assert not any(name_fault(rule["matchName"]) for one in to_ports for rule in one["rules"]["dns"])


def test_spread_names_come_from_all_over() -> None:
    assert spread(CLOSED, 2) == [CLOSED[0], CLOSED[COUNT // 2]]
    assert spread(CLOSED, COUNT) == CLOSED
