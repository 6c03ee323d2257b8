"""How much of their rate well-behaved clients keep while somebody attacks the one worker that serves them all.

Three rates for each case, in turn: nobody attacks; the attacker is aimed past the proxy, at a port of the same server
that the policy allows without looking at requests; the attacker is aimed at the proxy. The attacker uses what is left
of the load's processor, so the second is what the third is compared with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks import machine, processes
from benchmarks.attacker import ATTACKS, FLOODING, RAMP_S, UNDER_WAY
from benchmarks.failure import BenchmarkError
from benchmarks.http2 import ITEMS, SMALL, nghttpd
from benchmarks.machine import Processors
from benchmarks.report import Ratio, Report, Row, compare
from benchmarks.rules import PORT, READ_API
from benchmarks.subjects.penstock import policy
from benchmarks.topology import ATTACKER, HERE, SERVER, Topology, compiled, only_one, topology
from benchmarks.wrk import Wrk

NAME = "attacks"
ROUNDS, SECONDS = 3, 4
QUICK_ROUNDS, QUICK_SECONDS = 1, 2
HTTP2_PORT = 8082
PAST_PORTS = 9000
"""The first of the ports that are allowed without a look at requests: one for each case."""

WELL_BEHAVED = Wrk(ITEMS, 8)
ALONE, PAST, ATTACKED = "alone", "past", "attacked"
AIMS = (ALONE, PAST, ATTACKED)
WARM_S = 1
GRACE_S = 20.0
SETTLE_DEADLINE_S = 15.0
SETTLED_BUSY = 0.1
KEPT_ENOUGH = 80.0
FULL_PERCENT, STRONG_PERCENT = 95.0, 5.0
"""A flood by an attacker that got less than this of a processor that was full is none."""

STEADY = 0.7
POLITE = ("nice", "-n", "19")
"""Attackers, and whatever serves them alone, take what the well-behaved load leaves of its processor."""

RATIOS = (Ratio("requests_per_s", "rps"), Ratio("p99_us", "p99"))
NOTES = (
    "Medians of the rounds. Well-behaved: wrk, 8 connections, one request in flight on each. One worker serves both.",
    "alone: nobody attacks. past: the attacker is aimed at a port of the server that is allowed without L7 rules.",
    "kept: the rate under attack by the rate with the attacker aimed past the proxy, which takes its processor, too.",
    "failed: the well-behaved load's connections that were cut or waited 2 s for an answer. It makes new ones.",
    "The attacker has the rest of the load's processor (nice 19); one loop serves all connections of a worker, so an",
    "attack that is work for the proxy takes its share of the rate. What must not happen is that nothing is left.",
    "open: the attacker's connections at once, at most. made, cut: during the whole attack, a little longer than wrk's",
    "run. attacker cpu: its own share of the load's processor. growth: of the worker's peak memory over what it had",
    "before; the largest of the rounds.",
    "limit hits: all counters `limits.*` of the agent's status together.",
)


@dataclass(frozen=True, slots=True)
class Case:
    """An attack, the server that it meets when it is aimed past the proxy, and settings of the agent.

    `past`: options of the sink; None: an origin of its own.
    """

    past: Sequence[str] | None = ()
    port: int = PORT
    settings: tuple[tuple[str, float], ...] = ()
    warm_s: float = 0.5


HEADER_TIMEOUT_S = 2
CASES: Mapping[str, Case] = {
    "slowloris": Case(
        ("--seconds", str(HEADER_TIMEOUT_S + 0.5)),
        settings=(("header-timeout-s", HEADER_TIMEOUT_S),),
        warm_s=HEADER_TIMEOUT_S + 1,
    ),
    "slow-read": Case(None, warm_s=2),
    "silent-10000": Case(),
    "ping-flood": Case(("--bytes", "17000"), HTTP2_PORT),
    "settings-flood": Case(("--bytes", "900"), HTTP2_PORT),
    "rapid-reset": Case(("--bytes", "15000"), HTTP2_PORT),
    "continuation-flood": Case(("--bytes", "64000"), HTTP2_PORT),
    "pipelined-refusals": Case(None),
    "malformed": Case(("--bytes", "1")),
}


@dataclass(slots=True)
class Sample:
    """One run of the well-behaved load, and of the attacker beside it."""

    rate: float
    p99_us: float
    failed: int
    proxy_busy_percent: float
    load_busy_percent: float
    attacker_cpu_percent: float
    attacker: Mapping[str, int] = field(default_factory=dict)
    growth_mib: float = 0.0
    limits: Counter[str] = field(default_factory=Counter)


Samples = dict[tuple[str, str], list[Sample]]
"""By case and aim."""


def run(quick: bool) -> Report:
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    processors = Processors.choose()
    _introduce(processors, rounds, seconds)
    samples: Samples = {}
    with only_one():
        for settings, names in _by_settings().items():
            with _place(processors, dict(settings), names) as place:
                bench = Bench(place, seconds)
                for number in range(rounds):
                    for case in names:
                        _progress(f"round {number + 1} of {rounds}: {case}")
                        for aim in (*AIMS[number % len(AIMS) :], *AIMS[: number % len(AIMS)]):
                            samples.setdefault((case, aim), []).append(bench.measure(case, aim))
    return _report(samples)


def _by_settings() -> dict[tuple[tuple[str, float], ...], list[str]]:
    found: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for name, case in CASES.items():
        found.setdefault(case.settings, []).append(name)
    return found


# -- the place --------------------------------------------------------------------------------------------------------


def _past_port(case: str) -> int:
    return PAST_PORTS + list(CASES).index(case)


@contextmanager
def _place(processors: Processors, settings: Mapping[str, object], names: Sequence[str]) -> Iterator[Topology]:
    """Penstock with one worker, and all servers that attacks on it, or past it, are aimed at."""
    with tempfile.TemporaryDirectory(prefix="bench-policies-") as policies:
        (Path(policies) / "server.yaml").write_text(yaml.safe_dump(_policy()), encoding="utf-8")
        with topology(NAME, processors, Path(policies), {"workers": 1, **settings}) as place:
            agent = place.lab.agent_pid
            if agent is None:
                raise BenchmarkError("penstock has ended")
            processes.pin(processes.tree(agent), processors.proxy)
            _serve(place, nghttpd(place.folder, {ITEMS: SMALL}, port=HTTP2_PORT), HTTP2_PORT)
            for name in names:
                _serve(place, _past_server(CASES[name], _past_port(name)), _past_port(name))
            yield place


def _policy() -> dict[str, Any]:
    """HTTP rules on two ports; what is aimed past the proxy is allowed as it is."""
    document = policy(READ_API)
    [entry] = document["spec"]["ingress"][0]["toPorts"]
    entry["ports"].append({"port": str(HTTP2_PORT), "protocol": "TCP"})
    past = {"port": str(PAST_PORTS), "endPort": PAST_PORTS + len(CASES) - 1, "protocol": "TCP"}
    document["spec"]["ingress"][0]["toPorts"].append({"ports": [past]})
    return document


def _serve(place: Topology, argv: Sequence[str], port: int) -> None:
    place.serve(SERVER, [*POLITE, *argv], port, place.processors.load)


def _past_server(case: Case, port: int) -> Sequence[str]:
    if case.past is None:
        return [str(compiled("origin.c")), "0.0.0.0", str(port)]
    return _python("benchmarks.sink", str(port), *case.past)


def _python(module: str, *arguments: str) -> list[str]:
    """A program of this folder, wherever it is started."""
    return ["env", "-C", str(HERE.parent), sys.executable, "-m", module, *arguments]


# -- measuring --------------------------------------------------------------------------------------------------------


class Bench:
    """Measures in one place, whose worker has to stay the same."""

    def __init__(self, place: Topology, seconds: int) -> None:
        self._place = place
        self._seconds = seconds
        self._worker = self._worker_pid()
        WELL_BEHAVED.run(place, place.server_address, PORT, WARM_S)

    def measure(self, case: str, aim: str) -> Sample:
        before = self._limits()
        processes.reset_peak_memory([self._worker])
        memory = processes.peak_memory_mib([self._worker])
        if aim == ALONE:
            sample = self._load()
        else:
            port = _past_port(case) if aim == PAST else CASES[case].port
            with _attack(self._place, case, port) as attacker:
                time.sleep(CASES[case].warm_s)
                sample = self._load([attacker.pid])
            sample.attacker = attacker.told
        if self._worker_pid() != self._worker:
            raise BenchmarkError(f"{case}: the worker has ended under the attack")
        sample.growth_mib = processes.peak_memory_mib([self._worker]) - memory
        self._settle()
        sample.limits = self._limits() - before
        return sample

    def _load(self, attacker: Sequence[int] = ()) -> Sample:
        both = (self._place.processors.proxy, self._place.processors.load)
        busy, start = [machine.busy_seconds(cpu) for cpu in both], time.monotonic()
        used = processes.cpu_seconds([*attacker])
        printed = WELL_BEHAVED.run(self._place, self._place.server_address, PORT, self._seconds)
        elapsed = time.monotonic() - start
        used = processes.cpu_seconds([*attacker]) - used
        proxy_busy, load_busy = (
            100 * (machine.busy_seconds(cpu) - before) / elapsed for cpu, before in zip(both, busy, strict=True)
        )
        found: dict[str, int] = json.loads(printed.strip().splitlines()[-1])
        if found["refused"]:
            raise BenchmarkError(f"{found['refused']} requests of the well-behaved load were refused")
        rate = found["requests"] / found["duration_us"] * 1e6
        return Sample(rate, found["p99_us"], found["failed"], proxy_busy, load_busy, 100 * used / elapsed)

    def _worker_pid(self) -> int:
        [worker] = self._place.lab.agent.status()["proxy"]["workers"]
        return int(worker["pid"])

    def _limits(self) -> Counter[str]:
        counters = self._place.lab.agent.status()["counters"]
        return Counter({name: int(count) for name, count in counters.items() if name.startswith("limits.")})

    def _settle(self) -> None:
        """Wait until the worker has got rid of what the attacker has left behind."""
        deadline = time.monotonic() + SETTLE_DEADLINE_S
        step_s = 0.5
        while time.monotonic() < deadline:
            used = processes.cpu_seconds([self._worker])
            time.sleep(step_s)
            if processes.cpu_seconds([self._worker]) - used < SETTLED_BUSY * step_s:
                return
        raise BenchmarkError(f"the worker is still busy {SETTLE_DEADLINE_S:g} s after an attack")


@dataclass(frozen=True, slots=True)
class Attacking:
    """An attacker's process, and, after its end, what it told of its connections."""

    pid: int
    told: dict[str, int] = field(default_factory=dict)


@contextmanager
def _attack(place: Topology, case: str, port: int) -> Iterator[Attacking]:
    """The attacker, under way."""
    argv = [*POLITE, *_python("benchmarks.attacker", case, place.server_address, str(port))]
    child = place.popen(ATTACKER, argv, place.processors.load, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    attacking = Attacking(child.pid)
    try:
        assert child.stdout is not None
        if child.stdout.readline().strip() != UNDER_WAY:
            raise BenchmarkError(f"the attacker {case} has failed: {child.communicate(timeout=RAMP_S)[1].strip()}")
        yield attacking
        child.terminate()
        out, err = child.communicate(timeout=GRACE_S)
        if child.returncode:
            raise BenchmarkError(f"the attacker {case} has failed: {err.strip()}")
        attacking.told.update(json.loads(out))
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"the attacker {case} does not come to an end") from error
    finally:
        child.kill()
        child.wait()


# -- telling ----------------------------------------------------------------------------------------------------------


def _report(samples: Samples) -> Report:
    rows = [_row(case, aim, samples) for case in CASES for aim in AIMS]
    reached = [
        f"{case}: {', '.join(f'{name} {count:,}' for name, count in sorted(_hits(samples[case, ATTACKED]).items()))}"
        for case in CASES
        if _hits(samples[case, ATTACKED])
    ]
    limits = ("Limits reached under attack, all rounds together:", *(f"  {line}" for line in reached))
    notes = (*_doubts(rows), *NOTES, *limits)
    return Report(NAME, rows, compare(rows, ATTACKED, (PAST, ALONE), RATIOS), notes)


def _hits(samples: Sequence[Sample]) -> Counter[str]:
    return sum((sample.limits for sample in samples), Counter())


def _row(case: str, aim: str, samples: Samples) -> Row:
    found = samples[case, aim]
    rates = [sample.rate for sample in found]
    metrics: dict[str, float] = {
        "requests_per_s": median(rates),
        "min_per_s": min(rates),
        "max_per_s": max(rates),
        "p99_us": median(sample.p99_us for sample in found),
        "failed_count": median(sample.failed for sample in found),
        "proxy_busy_percent": median(sample.proxy_busy_percent for sample in found),
        "load_busy_percent": median(sample.load_busy_percent for sample in found),
    }
    if aim != ALONE:
        metrics["attacker_cpu_percent"] = median(sample.attacker_cpu_percent for sample in found)
        for metric, key in (("open_count", "most"), ("made_count", "made"), ("cut_count", "cut")):
            metrics[metric] = median(sample.attacker[key] for sample in found)
    if aim == ATTACKED:
        past = median(sample.rate for sample in samples[case, PAST])
        metrics["limit_hits_count"] = median(sample.limits.total() for sample in found)
        metrics["growth_mib"] = max(sample.growth_mib for sample in found)
        metrics["kept_percent"] = 100 * metrics["requests_per_s"] / past if past else 0.0
    return Row(aim, case, metrics)


def _doubts(rows: Sequence[Row]) -> list[str]:
    """What a reader should know first: rounds that were disturbed, and attacks that did harm."""
    calm = [row for row in rows if row.subject == ALONE]
    unsteady = [row for row in calm if row.metrics["min_per_s"] < STEADY * row.metrics["max_per_s"]]
    told = []
    if unsteady:
        told.append(
            f"NOT STEADY: nobody attacked, and yet rounds differ a lot in {len(unsteady)} cases. Measure again."
        )
    weak = [row.case for row in rows if row.subject == ATTACKED and _is_weak(row)]
    if weak:
        told.append(
            f"WEAK ATTACK: others left the attacker no processor in {', '.join(weak)}: kept says nothing there."
        )
    harmed = [row.case for row in rows if row.metrics.get("kept_percent", KEPT_ENOUGH) < KEPT_ENOUGH]
    if harmed:
        told.append(f"LESS THAN {KEPT_ENOUGH:.0f} % KEPT: {', '.join(harmed)}.")
    return told


def _is_weak(row: Row) -> bool:
    """The load's processor was full, and the attacker had next to nothing of it."""
    if ATTACKS[row.case].connections != FLOODING:
        return False
    return row.metrics["load_busy_percent"] > FULL_PERCENT and row.metrics["attacker_cpu_percent"] < STRONG_PERCENT


def _introduce(processors: Processors, rounds: int, seconds: int) -> None:
    lines = machine.describe()
    lines.append(
        f"processor {processors.load}: wrk, the origins and, behind them, the attacker; processor {processors.proxy}: "
        "penstock, one worker"
    )
    lines.append(f"{rounds} round(s) of {seconds} s per case and aim, in turn: {', '.join(AIMS)}")
    for settings, names in _by_settings().items():
        told = ", ".join(f"{name} {value:g}" for name, value in settings) or "default limits"
        lines.append(f"{told}: {', '.join(names)}")
    most = max(attack.connections for attack in ATTACKS.values())
    lines.append(f"at most {most:,} connections of an attacker, as far as RLIMIT_NOFILE goes")
    print("\n".join(f"  {line}" for line in lines) + "\n", flush=True)


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
