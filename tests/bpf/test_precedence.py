"""The merging table of the policy language (M02 to M31), from YAML to the verdicts of the compiled programs."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from bpf.model import judge
from bpf.reasons import DropReason
from proxy.datapath import desired_state
from tests.bpf import packets as p
from tests.bpf.kernel import POD_B, Kernel
from tests.config.policy.builders import snapshot_of
from tests.config.policy.test_resolve import MERGE, a

pytestmark = pytest.mark.bpf

ADDRESSES = {"a": "10.9.0.1", "foo": "10.9.0.2", "bar": "10.9.0.3", "world": "192.0.2.1"}
ASKED = [("bar", 80), ("foo", 80), ("foo", 81)]


def agrees(verdict: int, wanted: str) -> bool:
    """What rules inspect is the proxy's. So is some of what is allowed whatever it is, where another rule inspects."""
    return {"deny": verdict < 0, "allow": verdict >= 0, "http": verdict > 0}[wanted]


@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.parametrize(
    ("rules", "denied", "expected"), [(r[1], r[2], r[3:]) for r in MERGE], ids=[r[0] for r in MERGE]
)
def test_merging(
    programs: Kernel, rules: list[str], denied: list[str], expected: tuple[str, ...], direction: str
) -> None:
    text = a(*rules, deny=tuple(denied), direction=direction)
    if direction == "egress":
        text = text.replace("fromEndpoints", "toEndpoints")
    snapshot = snapshot_of(text)
    subject = next(
        one for one in snapshot.endpoints.values() if str(ip_address(ADDRESSES["a"])) in map(str, one.addresses)
    )
    state = desired_state(snapshot, {subject.id: POD_B}, [])
    programs.apply(state)
    for (peer, port), wanted in zip(ASKED, expected, strict=True):
        source, destination = (peer, "a") if direction == "ingress" else ("a", peer)
        frame = p.tcp(ADDRESSES[source], 1000 + port, ADDRESSES[destination], port)
        judged = judge(state, ip_address(ADDRESSES[source]), ip_address(ADDRESSES[destination]), p.TCP, port)
        seen = programs.to_pod(frame).verdict if direction == "ingress" else programs.from_pod(frame, POD_B).verdict
        if seen == -DropReason.SOCKET_LOOKUP_FAILED:
            seen = judged.verdict  # in a test run nobody can be given a socket
        assert (agrees(seen, wanted), agrees(judged.verdict, wanted)) == (True, True), f"{peer} {port}"
