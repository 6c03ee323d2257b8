"""HTTP/1.1 through one worker: connections, policies and bodies of different sizes."""

from __future__ import annotations

from benchmarks.report import Report
from benchmarks.rules import READ_API, services
from benchmarks.side_by_side import Benchmark, Case, measure
from benchmarks.subjects.envoy import Envoy
from benchmarks.subjects.haproxy import HAProxy
from benchmarks.subjects.none import NoProxy
from benchmarks.subjects.penstock import Penstock
from benchmarks.topology import plain_origin
from benchmarks.wrk import Wrk

ITEMS = "/api/v1/items"
READS = {
    "keep-alive-1": Wrk(ITEMS, 1),
    "keep-alive-8": Wrk(ITEMS, 8),
    "keep-alive-64": Wrk(ITEMS, 64),
    "keep-alive-256": Wrk(ITEMS, 256),
    "distinct-1": Wrk(ITEMS, 1, distinct=True),
    "distinct-64": Wrk(ITEMS, 64, distinct=True),
    "new-connection": Wrk(ITEMS, 8, once=True),
    "denied-64": Wrk("/private", 64, refused=True),
    "body-1mib-8": Wrk("/api/large", 8),
}
RULE_COUNTS = (1, 10, 100)
CASES = {name: Case(load, READ_API) for name, load in READS.items()} | {
    f"rules-{count}": Case(Wrk(f"/api/v1/service-{count}/items", 64), services(count)) for count in RULE_COUNTS
}
NOTES = (
    "new-connection: latencies are from the request on, the rate has the making of the connection in it.",
    "rules-N: N rules, of which the last one matches.",
)


def run(quick: bool) -> Report:
    subjects = (NoProxy(), Penstock(), Envoy(), HAProxy())
    return measure(Benchmark("http1", subjects, CASES, plain_origin, ("wrk",), NOTES), quick)
