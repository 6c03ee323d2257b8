"""Two names on one address, as with everybody who rents a place at a CDN: what a pod may ask for there that has come by
the one name that its policy allows (`tofqdns-bind-names`).
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.api.explain import parameters
from proxy.flows.model import Flow, TrafficDirection, Verdict
from proxy.questions import Asked
from tests.lab.clients import Curl
from tests.lab.dns_support import addresses, connected, dns_entry, dns_lab, is_open, names_entry, pods, policy
from tests.lab.support import Http, Node, eventually, self_signed

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
ALLOWED, NEIGHBOUR, ELSEWHERE = "allowed.cdn.test", "neighbour.cdn.test", "www.elsewhere.test"
CDN = {4: "203.0.113.40", 6: "2001:db8:cd::40"}
TLS, HTTP = 443, 80
CLIENT, BOTH, PLAIN = "shop/client", "shop/both", "shop/plain"
"""By name alone; by name and by address; by name, and nobody looks at what is asked."""

SETTINGS = "tls", "all", "off"
BOUND = {("tls", TLS), ("all", TLS), ("all", HTTP)}
"""Settings and ports where a client must ask for the name that it came by."""

NAME = f"[{{matchName: {ALLOWED}}}]"
TLS_RULES = 'serverNames: ["*.cdn.test"]'
HTTP_RULES = 'rules: {http: [{path: "/.*"}]}'
LOOKUPS = dns_entry("[{matchPattern: '*.cdn.test'}]")
BY_NAME = (LOOKUPS, names_entry(NAME, TLS, rules=TLS_RULES), names_entry(NAME, HTTP, rules=HTTP_RULES))
BY_ADDRESS = "".join(
    f"""\
  - toCIDR: [{CDN[4]}/32, "{CDN[6]}/128"]
    toPorts:
    - ports: [{{port: "{port}", protocol: TCP}}]
      {rules}
"""
    for port, rules in ((TLS, TLS_RULES), (HTTP, HTTP_RULES))
)
POLICY = (
    policy("client", *BY_NAME)
    + policy("both", *BY_NAME, BY_ADDRESS)
    + policy("plain", LOOKUPS, names_entry(NAME, TLS, HTTP))
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a server that has both names."""
    return self_signed(tmp_path_factory.mktemp("tls") / "cdn.pem", (ALLOWED, NEIGHBOUR))


@pytest.fixture(scope="module", params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def cdn_lab(name: str, folder: Path, certificate: Path, options: dict[str, object]) -> Iterator[Node]:
    listed = ", ".join(f'{{name: {host}, addresses: ["{CDN[4]}", "{CDN[6]}"]}}' for host in (ALLOWED, NEIGHBOUR))
    workloads = f"""{pods("client", "both", "plain")}---
kind: World
apiVersion: lab.penstock.io/v1
metadata:
  annotations:
    lab.penstock.io/run.cdn: exec {sys.executable} -P {HERE}/servers.py tls:{TLS}:{certificate}
spec: {{hosts: [{listed}]}}
"""
    with dns_lab(name, folder, workloads, POLICY, options) as found:
        eventually(lambda: is_up(found))
        yield found


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory, certificate: Path, setting: str) -> Iterator[Node]:
    options: dict[str, object] = {"tofqdns-bind-names": setting}
    folder = tmp_path_factory.mktemp(setting) / "lab"
    with cdn_lab(f"{lab_name}-{setting[0]}", folder, certificate, options) as found:
        yield found


def is_up(node: Node) -> bool:
    with node.lab.socket("world") as connection:
        return connection.connect_ex((CDN[4], TLS)) == 0


@pytest.fixture(scope="module")
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=f"{certificate}.crt")


@pytest.fixture(params=[4, 6])
def ip(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def come(node: Node, pod: str, ip: int, port: int) -> str:
    """By the allowed name; the address, which is open now."""
    (found,) = addresses(node, pod, ALLOWED, "AAAA" if ip == 6 else "A")
    assert found == CDN[ip]
    assert is_open(node, pod, found, port)
    return found


@contextmanager
def tls(node: Node, context: ssl.SSLContext, name: str | None, ip: int, pod: str = CLIENT) -> Iterator[ssl.SSLSocket]:
    """A connection whose handshake is still to come."""
    with (
        connected(node, pod, come(node, pod, ip, TLS), TLS) as plain,
        context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False) as connection,
    ):
        yield connection


def curl(node: Node, host: str, ip: int, pod: str = CLIENT) -> tuple[int, int]:
    """(status, local port) of a request with that host to the address of the allowed name."""
    address = come(node, pod, ip, HTTP)
    shown = f"[{address}]" if ip == 6 else address
    done = Curl(node, "-H", f"Host: {host}", f"http://{shown}/", source=pod)
    return done.only.status, done.only.port


def explained(node: Node, pod: str, ip: int, **asked: str) -> dict[str, Any]:
    names = tuple(f"{name}={CDN[ip]}" for name in (ALLOWED, NEIGHBOUR))
    question = Asked(pod, CDN[ip], names=names, **asked)  # type: ignore[arg-type]
    found = node.lab.agent.client.get("/v1/policy/explain", parameters(question, everything=False))
    egress: dict[str, Any] = found["egress"]
    return egress


def reached(node: Node) -> list[str]:
    """The names for which clients have reached the server."""
    return node.lab.log("world", "cdn").splitlines()


def wrong(what: str, name: str) -> str:
    return f'{what} "{name}" is none of the names that opened this address (toFQDNs {ALLOWED})'


def seen(flow: Flow) -> tuple[Verdict, TrafficDirection]:
    return flow.verdict, flow.traffic_direction


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ALLOWED, "Allowed.CDN.test"])
@pytest.mark.parametrize("pod", [CLIENT, BOTH, PLAIN])
def test_tls_by_the_allowed_name(node: Node, trusting: ssl.SSLContext, ip: int, name: str, pod: str) -> None:
    with tls(node, trusting, name, ip, pod) as connection:
        connection.do_handshake()
        assert Http(connection).request("GET", "/").body == b"hello\n"


@pytest.mark.parametrize("has_asked", [False, True])
def test_tls_by_the_name_of_a_neighbour(
    node: Node, trusting: ssl.SSLContext, setting: str, ip: int, has_asked: bool
) -> None:
    """The rules decide, not what has been looked up: the neighbour's name is none of theirs."""
    if has_asked:
        assert addresses(node, CLIENT, NEIGHBOUR, "AAAA" if ip == 6 else "A") == (CDN[ip],)
    before = len(reached(node))
    with tls(node, trusting, NEIGHBOUR, ip) as connection:
        local = int(connection.getsockname()[1])
        if (setting, TLS) in BOUND:
            with pytest.raises(ConnectionResetError):
                connection.do_handshake()
        else:
            connection.do_handshake()
            assert Http(connection).request("GET", "/").body == b"hello\n"
    egress = explained(node, CLIENT, ip, sni=NEIGHBOUR)
    if (setting, TLS) not in BOUND:
        assert egress["verdict"] == "allow"
        return
    assert reached(node)[before:] == [], "the server never hears of it"
    flow = node.flow(local, lambda flow: flow.verdict is Verdict.DROPPED)
    assert seen(flow) == (Verdict.DROPPED, TrafficDirection.EGRESS)
    assert flow.summary == f'TLS server name "{NEIGHBOUR}": {wrong("server name", NEIGHBOUR)}'
    assert ALLOWED in " ".join(flow.destination_names)
    assert (egress["verdict"], egress["note"]) == ("deny", wrong("server name", NEIGHBOUR))


def test_tls_without_a_name(node: Node, ip: int) -> None:
    """No rule allows that, whatever the setting."""
    context = ssl.create_default_context()
    context.check_hostname = False
    with tls(node, context, None, ip) as connection:
        local = int(connection.getsockname()[1])
        with pytest.raises(ConnectionResetError):
            connection.do_handshake()
    flow = node.flow(local, lambda flow: flow.verdict is Verdict.DROPPED)
    assert "the client names no server" in flow.summary


# -- HTTP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [ALLOWED, f"{ALLOWED}:{HTTP}", f"{ALLOWED}.", "ALLOWED.cdn.TEST"])
def test_http_by_the_allowed_name(node: Node, ip: int, host: str) -> None:
    assert curl(node, host, ip)[0] == 200


@pytest.mark.parametrize("host", [NEIGHBOUR, f"{NEIGHBOUR}:{HTTP}", ELSEWHERE, CDN[4], f"[{CDN[6]}]:{HTTP}"])
def test_http_by_another_host(node: Node, setting: str, ip: int, host: str) -> None:
    status, local = curl(node, host, ip)
    egress = explained(node, CLIENT, ip, http="GET /", host=host)
    if (setting, HTTP) not in BOUND:
        assert (status, egress["verdict"]) == (200, "allow")
        return
    assert status == 403
    flow = node.flow(local, lambda flow: flow.verdict is Verdict.DROPPED)
    assert seen(flow) == (Verdict.DROPPED, TrafficDirection.EGRESS)
    said = wrong("host", host.removesuffix(f":{HTTP}"))
    assert flow.deciding is not None
    assert said in flow.deciding.reason
    assert (egress["verdict"], egress["note"]) == ("deny", said)


def test_a_connection_is_judged_request_by_request(node: Node, setting: str, ip: int) -> None:
    with connected(node, CLIENT, come(node, CLIENT, ip, HTTP), HTTP) as connection:
        http = Http(connection)
        statuses = []
        for host in (ALLOWED, NEIGHBOUR, ALLOWED):
            http.send(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            statuses.append(http.answer().status)
    assert statuses == [200, 403 if (setting, HTTP) in BOUND else 200, 200]


# -- not bound ---------------------------------------------------------------------------------------------------------


def test_an_address_that_is_allowed_as_such_is_not_bound(node: Node, trusting: ssl.SSLContext, ip: int) -> None:
    with tls(node, trusting, NEIGHBOUR, ip, BOTH) as connection:
        connection.do_handshake()
        assert Http(connection).request("GET", "/").body == b"hello\n"
    assert curl(node, NEIGHBOUR, ip, BOTH)[0] == 200
    for asked in ({"sni": NEIGHBOUR}, {"http": "GET /", "host": NEIGHBOUR}):
        assert explained(node, BOTH, ip, **asked)["verdict"] == "allow"


def test_where_nobody_looks_at_requests_nothing_is_bound(node: Node, trusting: ssl.SSLContext, ip: int) -> None:
    with tls(node, trusting, NEIGHBOUR, ip, PLAIN) as connection:
        connection.do_handshake()
        assert Http(connection).request("GET", "/").body == b"hello\n"
    assert curl(node, NEIGHBOUR, ip, PLAIN)[0] == 200


def test_the_neighbours_name_alone_opens_nothing(node: Node, ip: int) -> None:
    node.lab.agent.client.delete("/v1/fqdn/cache")
    assert addresses(node, CLIENT, NEIGHBOUR, "AAAA" if ip == 6 else "A") == (CDN[ip],)
    assert not is_open(node, CLIENT, CDN[ip], TLS)


def test_audit_mode_only_notes_it(lab_name: str, tmp_path: Path, certificate: Path, trusting: ssl.SSLContext) -> None:
    options: dict[str, object] = {"tofqdns-bind-names": "all", "policy-audit-mode": True}
    with cdn_lab(f"{lab_name}-m", tmp_path / "lab", certificate, options) as node:
        with tls(node, trusting, NEIGHBOUR, 4) as connection:
            local = int(connection.getsockname()[1])
            connection.do_handshake()
            assert Http(connection).request("GET", "/").body == b"hello\n"
        flow = node.flow(local, lambda flow: flow.verdict is Verdict.AUDIT and "TLS" in flow.summary)
        assert wrong("server name", NEIGHBOUR) in flow.summary
        status, local = curl(node, NEIGHBOUR, 4)
        assert status == 200
        flow = node.flow(local, lambda flow: flow.verdict is Verdict.AUDIT and flow.deciding is not None)
        assert flow.deciding is not None
        assert wrong("host", NEIGHBOUR) in flow.deciding.reason
        assert explained(node, CLIENT, 4, sni=NEIGHBOUR)["verdict"] == "audit"
