"""Which benchmarks there are. A benchmark is a module with SUMMARY and `run(quick) -> Report`, loaded when it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.report import Report


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`name` is what the command line and the file of results call it."""

    name: str
    summary: str
    module: str

    def run(self, quick: bool) -> Report:
        run: Callable[[bool], Report] = importlib.import_module(self.module).run
        return run(quick)


CATALOG = (
    Benchmark("http1", "HTTP/1.1 through one worker: no proxy, Penstock, Envoy, HAProxy", "benchmarks.http1"),
    Benchmark("http2", "HTTP/2 in clear text through one worker: the same subjects", "benchmarks.http2"),
    Benchmark("grpc", "unary gRPC calls through one worker: the same subjects", "benchmarks.grpc"),
    Benchmark("kafka", "Kafka producers and consumers: direct, Penstock, 1,000 rules", "benchmarks.kafka.run"),
    Benchmark("kafka-decisions", "what one Kafka request costs the worker's parser", "benchmarks.kafka_decisions"),
    Benchmark("dns", "DNS questions through one worker: direct, dnsdist, Penstock", "benchmarks.dns.run"),
    Benchmark("dns-decisions", "what one DNS question costs the worker's parser", "benchmarks.dns_decisions"),
    Benchmark("dns-soak", "ten minutes of names that nobody has asked for before: memory", "benchmarks.dns.soak"),
    Benchmark("attacks", "what well-behaved clients keep while somebody attacks the proxy", "benchmarks.attacks"),
    Benchmark("datapath", "pod to pod: no programs, Penstock, nftables; 10 to 16,000 entries", "benchmarks.datapath"),
    Benchmark("policy", "policies by the thousand: compile time, memory, saved file to verdict", "benchmarks.policy"),
)
