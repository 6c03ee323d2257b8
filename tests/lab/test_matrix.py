"""Every way between a pod and its peers, with real sockets: IPv4 and IPv6; on the same node, on another node, in the
world, the node itself; TCP and UDP; direct and through a service; allowed, denied, inspected. Two nodes, two agents;
services are translated by the nodes' nftables.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.lab import Lab
from proxy.lab.workloads import open_ports
from tests.lab.support import SILENCE_S, Http, eventually

pytestmark = pytest.mark.lab
HERE = Path(__file__).parent

CLIENT, SERVER, FAR_SERVER, FAR_CLIENT = "shop/client", "shop/server", "shop/far-server", "shop/far-client"
WORLD_HOST = "example.com"
PORTS = {("TCP", "L7"): 80, ("TCP", "allowed"): 81, ("TCP", "denied"): 82}
PORTS |= {("UDP", "L7"): 90, ("UDP", "allowed"): 91, ("UDP", "denied"): 92}
SERVICE_OFFSET = 8000
# What comes of it. Of DNS rules on UDP the proxy is still to come: until then they let nothing pass.
EXPECTED = {
    ("TCP", "allowed"): "answered",
    ("TCP", "denied"): "silence",
    ("TCP", "L7"): "200, then 403",
    ("UDP", "allowed"): "answered",
    ("UDP", "denied"): "silence",
    ("UDP", "L7"): "silence",
}


@dataclass(frozen=True)
class Cell:
    """`peer`: where the other end is, seen from the pod on the first node whose policy is in question."""

    direction: str
    peer: str
    ip: int
    protocol: str
    address: str
    rule: str

    def __str__(self) -> str:
        return f"{self.direction:8} {self.peer:11} v{self.ip} {self.protocol} {self.address:8} {self.rule:8}"


CELLS = [
    Cell(*parts)
    for parts in itertools.product(
        ["egress", "ingress"],
        ["same node", "other node", "world", "host"],
        [4, 6],
        ["TCP", "UDP"],
        ["direct", "service"],
        ["allowed", "denied", "L7"],
    )
    # From the same node is the same as to it; the world knows no services; no rule inspects UDP that comes in.
    if not (parts[0] == "ingress" and (parts[1] == "same node" or (parts[1], parts[4]) == ("world", "service")))
    and not (parts[0] == "ingress" and (parts[3], parts[5]) == ("UDP", "L7"))
]


@dataclass(frozen=True)
class Scene:
    lab: Lab
    extra: dict[tuple[str, int], str]  # service addresses of the world's host and of the node

    def source(self, cell: Cell) -> str:
        if cell.direction == "egress":
            return CLIENT
        return {"other node": FAR_CLIENT, "world": "world", "host": "node"}[cell.peer]

    def destination(self, cell: Cell) -> tuple[str, int]:
        port = PORTS[cell.protocol, cell.rule]
        if cell.address == "service":
            return self._service(cell), port + SERVICE_OFFSET
        if cell.direction == "ingress":
            return self.pod(SERVER, cell.ip), port
        match cell.peer:
            case "same node":
                return self.pod(SERVER, cell.ip), port
            case "other node":
                return self.pod(FAR_SERVER, cell.ip), port
            case "world":
                return world_address(self.lab, cell.ip), port
            case _:
                return node_address(self.lab, cell.ip), port

    def _service(self, cell: Cell) -> str:
        if cell.direction == "egress" and cell.peer in ("world", "host"):
            return self.extra[cell.peer, cell.ip]
        name = FAR_SERVER if (cell.direction, cell.peer) == ("egress", "other node") else SERVER
        return self.lab.state.services[name][cell.ip == 6]

    def pod(self, ref: str, ip: int) -> str:
        pod = self.lab.pod(ref)
        return pod.v6 if ip == 6 else pod.v4

    def connect(self, cell: Cell) -> socket.socket:
        family = socket.AF_INET6 if cell.ip == 6 else socket.AF_INET
        kind = socket.SOCK_STREAM if cell.protocol == "TCP" else socket.SOCK_DGRAM
        made = self.lab.socket(self.source(cell), family, kind)
        made.settimeout(SILENCE_S if EXPECTED[cell.protocol, cell.rule] == "silence" else 10)
        if self.source(cell) == "world":
            made.bind((world_address(self.lab, cell.ip), 0))
        try:
            made.connect(self.destination(cell))
        except BaseException:
            made.close()
            raise
        return made


def world_address(lab: Lab, ip: int) -> str:
    return next(address for address in lab.state.hosts[WORLD_HOST] if (":" in address) == (ip == 6))


def node_address(lab: Lab, ip: int) -> str:
    """Its own, which is the gateway of its pods."""
    prefix = lab.state.v6 if ip == 6 else lab.state.v4
    return prefix.partition("::")[0] + "::1" if ip == 6 else prefix.partition(".0.0/")[0] + ".0.1"


def outcome(scene: Scene, cell: Cell) -> str:
    try:
        with scene.connect(cell) as connection:
            if cell.protocol == "UDP":
                connection.send(b"question")
                return "answered" if connection.recv(100) == b"question" else "something else"
            http = Http(connection)
            if cell.rule != "L7":
                return "answered" if http.request("GET", "/secret").status == 200 else "something else"
            return f"{http.request('GET', '/public').status}, then {http.request('GET', '/secret').status}"
    except TimeoutError:
        return "silence"
    except OSError as error:
        return error.strerror or type(error).__name__


@pytest.fixture(scope="module")
def scene(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "policy.yaml").write_text((HERE / "nodes-policy.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    settings = {"allow_localhost": "policy", "workers": 1}
    with Lab.up(lab_name, [HERE / "nodes.yaml"], policies=folder, settings=settings, cluster_ips=True) as lab:
        own = {"node": [node_address(lab, ip) for ip in (4, 6)], "world": [world_address(lab, ip) for ip in (4, 6)]}
        for place, addresses in own.items():
            hosts = [f"--host={address}" for address in addresses]
            for options in (["--port=81", "--port=82"], ["--udp", "--port=90", "--port=91", "--port=92"]):
                if place == "node" and "--udp" not in options:
                    options = ["--port=80", *options]
                child = lab.popen(place, ["python", "-m", "proxy.lab.echo", *hosts, *options])
                if "--udp" not in options:
                    eventually(lambda child=child: 82 in open_ports(child.pid))  # type: ignore[misc]
        yield Scene(lab, extra_services(lab))


def extra_services(lab: Lab) -> dict[tuple[str, int], str]:
    """Services without pods: their backends are the node itself, and a host of the world."""
    found = {}
    for name, place in (("host", node_address), ("world", world_address)):
        for ip in (4, 6):
            base = lab.state.services[SERVER][ip == 6]
            number = 100 if name == "host" else 101
            own = base.rpartition(":")[0] + f":80{number - 100 + 50:02x}" if ip == 6 else _plus(base, number)
            found[name, ip] = own
            family, target = ("ip6", f"[{place(lab, 6)}]") if ip == 6 else ("ip", place(lab, 4))
            for (protocol, _), port in PORTS.items():
                match = f"{family} daddr {own} {protocol.lower()} dport {port + SERVICE_OFFSET}"
                rule = f"add rule inet services translate {match} dnat {family} to {target}:{port}"
                done = lab.exec("node", ["nft", rule])
                assert done.returncode == 0, done.stderr
    return found


def _plus(address: str, number: int) -> str:
    head, _, last = address.rpartition(".")
    return f"{head}.{int(last) + number}"


def test_every_cell(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    eventually(lambda: outcome(scene, Cell("egress", "same node", 4, "UDP", "direct", "allowed")) == "answered")
    with ThreadPoolExecutor(16) as pool:
        seen = dict(zip(CELLS, pool.map(lambda cell: outcome(scene, cell), CELLS), strict=True))
    expected = {cell: EXPECTED[cell.protocol, cell.rule] for cell in CELLS}
    with capsys.disabled():
        print("\n\n  direction peer       ip prot address  rule     expected        seen")
        for cell in CELLS:
            print(f"  {cell} {expected[cell]:15} {seen[cell]:15} {'' if seen[cell] == expected[cell] else 'WRONG'}")
        print()
    assert seen == expected


@pytest.mark.parametrize("ip", [4, 6])
def test_a_server_behind_a_service_sees_the_client_itself(scene: Scene, ip: int) -> None:
    for rule in ("allowed", "L7"):
        cell = Cell("egress", "other node", ip, "TCP", "service", rule)
        with scene.connect(cell) as connection:
            answer = Http(connection).request("GET", "/public")
            assert answer.status == 200
            assert scene.pod(CLIENT, ip).encode() in answer.body


@pytest.mark.parametrize("ip", [4, 6])
def test_a_pod_reaches_itself_through_its_service(scene: Scene, ip: int) -> None:
    """Although no rule says that servers may talk to servers."""
    with contextlib.closing(scene.lab.socket(SERVER, socket.AF_INET6 if ip == 6 else socket.AF_INET)) as connection:
        connection.settimeout(10)
        connection.connect((scene.lab.state.services[SERVER][ip == 6], 82 + SERVICE_OFFSET))
        assert Http(connection).request("GET", "/x").status == 200
