"""The kernel part side by side: throughput, latency and new connections between two pods of one node, and what one
packet costs the programs.

Subjects take turns in every round: no programs, Penstock with an allow rule among so many others, nftables with the
same allowed addresses and ports as one set and as one rule each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks import machine
from benchmarks.failure import BenchmarkError
from benchmarks.machine import Processors
from benchmarks.report import Ratio, Report, Row, compare
from benchmarks.topology import CLIENT, NODE, SERVER, Topology, compiled, only_one, topology
from bpf.loader import Options, load
from bpf.progrun import TC_ACT_UNSPEC, run_program
from bpf.tables import DesiredState, EndpointFlag, LocalEndpoint, RowKey, RowVerdict, Tables
from bpf.tables import Row as PolicyRow

NAME = "datapath"
SIZES = (10, 1_000, 16_000)
ROUNDS, SECONDS = 3, 2
QUICK_ROUNDS, QUICK_SECONDS = 1, 1
RR_PORT, IPERF_PORT, OTHER_PORT = 7000, 5201, 9999
REPEAT = 1_000_000
SUBJECTS = ("none", "penstock", "nft-set", "nft-rules")
RATIOS = (
    Ratio("throughput_mib_per_s", "throughput"),
    Ratio("exchanges_per_s", "exchanges"),
    Ratio("connections_per_s", "connections"),
)
NOTES = (
    "Medians of the rounds. Two pods of one node, one processor each; the programs of the node run on whichever sends.",
    "throughput: iperf3, one TCP stream. exchanges: one byte there and back on one connection, one at a time.",
    "connections: connect, one byte there and back, reset, one after the other.",
    "The case is the number of addresses that may reach another port of the server: rows of Penstock's policy,",
    "elements of nftables' set, or one nftables rule each, behind `ct state established accept`.",
    "known flow, first packet: nanoseconds of from_pod on one frame (BPF_PROG_TEST_RUN), without the rest of the way;",
    "a first packet asks for identities and both policies, and is told to userspace as far as the rate limit lets it.",
    "Ratios are Penstock's figure divided by the other's: above 1 is better.",
)


def run(quick: bool) -> Report:
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    processors = Processors.choose()
    print(
        "\n".join(f"  {line}" for line in [*machine.describe(), f"{rounds} round(s) of {seconds} s"]) + "\n", flush=True
    )
    samples: dict[tuple[str, str], list[dict[str, float]]] = {}
    with ExitStack() as stack:
        stack.enter_context(only_one())
        alone = {size: _programs(size) for size in SIZES}
        plain = stack.enter_context(topology(NAME, processors))
        policies = plain.folder / "bench-policies"
        policies.mkdir()
        _write_policy(policies, SIZES[0])
        own = stack.enter_context(topology(f"{NAME}-own", processors, policies, {"workers": 1}))
        for place in (plain, own):
            _serve(place)
        for size in SIZES:
            _enforce(own, policies, size)
            case = f"{size}-entries"
            for number in range(rounds):
                print(f"  round {number + 1} of {rounds}: {case}", file=sys.stderr, flush=True)
                order = SUBJECTS[number % len(SUBJECTS) :] + SUBJECTS[: number % len(SUBJECTS)]
                for subject in order:
                    place = own if subject == "penstock" else plain
                    _nftables(plain, subject, size)
                    samples.setdefault((case, subject), []).append(_measure(place, seconds))
    rows = []
    for (case, subject), found in samples.items():
        figures = {key: median(sample[key] for sample in found) for key in found[0]}
        if subject == "penstock":
            figures |= alone[int(case.partition("-")[0])]
        rows.append(Row(subject, case, figures))
    rows.sort(key=lambda row: (int(row.case.partition("-")[0]), SUBJECTS.index(row.subject)))
    return Report(NAME, rows, compare(rows, "penstock", ("none", "nft-set", "nft-rules"), RATIOS), NOTES)


def _serve(place: Topology) -> None:
    place.serve(SERVER, [str(compiled("dial.c")), "serve", "0.0.0.0", str(RR_PORT)], RR_PORT, place.processors.proxy)
    place.serve(SERVER, ["iperf3", "--server", "--port", str(IPERF_PORT)], IPERF_PORT, place.processors.proxy)


def _measure(place: Topology, seconds: int) -> dict[str, float]:
    server = place.server_address
    iperf = ["iperf3", "--client", server, "--port", str(IPERF_PORT), "--time", str(seconds), "--json"]
    received = json.loads(_client(place, iperf, seconds))["end"]["sum_received"]["bits_per_second"]
    figures = {"throughput_mib_per_s": received / 8 / 2**20}
    for mode, rate in (("rr", "exchanges"), ("crr", "connections")):
        dial = [str(compiled("dial.c")), mode, server, str(RR_PORT), str(seconds)]
        count, micros, p50, p99 = map(float, _client(place, dial, seconds).split())
        figures |= {f"{rate}_per_s": count / micros * 1e6, f"{mode}_p50_us": p50, f"{mode}_p99_us": p99}
    return figures


def _client(place: Topology, argv: Sequence[str], seconds: int) -> str:
    return place.run(CLIENT, argv, place.processors.load, seconds + 20)


def _addresses(count: int) -> Iterator[IPv4Address]:
    base = int(ip_address("10.200.0.0"))
    return (IPv4Address(base + 2 * number) for number in range(count))  # no two of them make a larger prefix


def _write_policy(folder: Path, count: int) -> None:
    client = {"fromEndpoints": [{"matchLabels": {"app": "client"}}]}
    others = {
        "fromCIDR": [f"{address}/32" for address in _addresses(count)],
        "toPorts": [{"ports": [{"port": str(OTHER_PORT), "protocol": "TCP"}]}],
    }
    ports = [{"port": str(port), "protocol": "TCP"} for port in (RR_PORT, IPERF_PORT)]
    document = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "server", "namespace": "bench"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{**client, "toPorts": [{"ports": ports}]}, others],
        },
    }
    (folder / ".new").write_text(yaml.safe_dump(document), encoding="utf-8")
    (folder / ".new").replace(folder / "server.yaml")


def _enforce(place: Topology, policies: Path, count: int) -> None:
    """Put the policy of that size in force, and see that it is."""
    _write_policy(policies, count)
    place.lab.reload()
    for _ in range(600):
        if _rows(place.lab.agent.status()) >= count:
            return
        subprocess.run(["sleep", "0.1"], check=True)
    raise BenchmarkError(f"a policy of {count} entries was not in force after a minute")


def _rows(status: Mapping[str, Any]) -> int:
    return int(status["datapath"]["details"]["entries"]["policy rows"])


def _nftables(place: Topology, subject: str, count: int) -> None:
    """The same permissions in nftables' forward chain; none for the other subjects."""
    script = "table inet bench\ndelete table inet bench\n"
    if subject.startswith("nft"):
        script += _nft_script(place, count, as_set=subject == "nft-set")
    done = place.lab.exec(NODE, ["nft", "-f", "-"], input=script)
    if done.returncode:
        raise BenchmarkError(f"nft: {done.stderr.strip()[:300]}")


def _nft_script(place: Topology, count: int, *, as_set: bool) -> str:
    server, client = place.server_address, place.client_address
    others = [str(address) for address in _addresses(count)]
    allowed = [f"    ip saddr {address} tcp dport {OTHER_PORT} accept" for address in others]
    lines = ["table inet bench {"]
    if as_set:
        lines += ["  set allowed {", "    type ipv4_addr", f"    elements = {{ {', '.join(others)} }}", "  }"]
        allowed = [f"    ip saddr @allowed tcp dport {OTHER_PORT} accept"]
    lines += [
        "  chain server {",
        *allowed,
        f"    ip saddr {client} tcp dport {{ {RR_PORT}, {IPERF_PORT} }} accept",
        "    drop",
        "  }",
        "  chain forward {",
        "    type filter hook forward priority 0; policy accept;",
        "    ct state established accept",
        f"    ip daddr {server} jump server",
        "  }",
        "}",
        "",
    ]
    return "\n".join(lines)


def _programs(count: int) -> dict[str, float]:
    """Nanoseconds of from_pod with so many rows in the receiver's policy."""
    sender, receiver = ip_address("10.0.0.1"), ip_address("10.0.0.2")
    rows = {RowKey(100, 0, protocol, port, 16): PolicyRow(RowVerdict.ALLOW, 1) for protocol, port in ((6, 80), (1, 13))}
    rows |= {RowKey(1000 + number, 0, 6, OTHER_PORT, 16): PolicyRow(RowVerdict.ALLOW, 2) for number in range(count)}
    anything = {RowKey(0, 1, 0, 0, 0): PolicyRow(RowVerdict.ALLOW, 3)}
    state = DesiredState(
        endpoints={
            sender: LocalEndpoint(1, 100, EndpointFlag.ENFORCE_EGRESS, 1, anything),
            receiver: LocalEndpoint(2, 101, EndpointFlag.ENFORCE_INGRESS, 2, rows),
        },
        ipcache={ip_network(f"{address}/32"): 1000 + number for number, address in enumerate(_addresses(count))},
    )
    with load(None, Options(policy_entries=max(count * 2, 1024))) as loaded:
        Tables(loaded.maps, max(count * 2, 1024)).apply(state)
        known = _frame(6, bytes.fromhex("03e80050 00000001 00000000 50020400 00000000".replace(" ", "")))
        first = _frame(
            1, bytes.fromhex("0d00000000070001") + bytes(12)
        )  # a timestamp request: of no flow, always asked
        figures = {}
        for name, frame in (("known_flow_ns", known), ("first_packet_ns", first)):
            if run_program(loaded.programs["from_pod"], frame).action != TC_ACT_UNSPEC:
                raise BenchmarkError(f"{name}: the packet was not let through")
            figures[name] = float(run_program(loaded.programs["from_pod"], frame, repeat=REPEAT).nanoseconds)
        return figures


def _frame(protocol: int, body: bytes) -> bytes:
    header = bytes([0x45, 0]) + (20 + len(body)).to_bytes(2, "big") + bytes([0, 1, 0, 0, 64, protocol, 0, 0])
    return bytes.fromhex("020000000002020000000001") + b"\x08\x00" + header + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + body
