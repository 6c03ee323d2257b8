"""TLS connections judged by the server name that their client asks for; nobody in between reads more than that."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.flows.model import Flow, TrafficDirection, Verdict
from proxy.lab import Lab
from proxy.lab.progress import Progress
from tests.lab.clients import CLIENT, Curl
from tests.lab.support import PATIENCE_S, Http, Node, eventually, self_signed

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
EXACT, WILD, HTTP = 443, 444, 80
CALLER, SERVER, OPEN = "shop/caller", "shop/server", "shop/open"
NAMES = "www.example.com", "*.example.com", "example.com"
WORKLOADS = """
kind: Pod
apiVersion: v1
metadata:
  name: server
  namespace: shop
  labels: {{app: server}}
  annotations:
    lab.penstock.io/run: exec {python} -P {here}/servers.py tls:{exact}:{file} tls:{wild}:{file}
    lab.penstock.io/run.echo: exec python -m proxy.lab.echo --port {http}
spec: {{containers: [{{ports: [{{containerPort: {exact}}}, {{containerPort: {wild}}}, {{containerPort: {http}}}]}}]}}
---
kind: Pod
apiVersion: v1
metadata:
  name: open
  namespace: shop
  labels: {{app: open}}
  annotations: {{lab.penstock.io/run: "exec {python} -P {here}/servers.py tls:{exact}:{file}"}}
spec: {{containers: [{{ports: [{{containerPort: {exact}}}]}}]}}
---
kind: Pod
apiVersion: v1
metadata: {{name: client, namespace: shop, labels: {{app: client}}}}
---
kind: Pod
apiVersion: v1
metadata: {{name: caller, namespace: shop, labels: {{app: caller}}}}
"""
POLICY = f"""\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: server, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: server}}}}
  ingress:
  - toPorts:
    - ports: [{{port: "{EXACT}", protocol: TCP}}]
      serverNames: [www.example.com]
  - toPorts:
    - ports: [{{port: "{WILD}", protocol: TCP}}]
      serverNames: ["*.example.com"]
  - toPorts:
    - ports: [{{port: "{HTTP}", protocol: TCP}}]
      rules: {{http: [{{path: "/public.*"}}]}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: caller, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: caller}}}}
  egress:
  - toPorts:
    - ports: [{{port: "{EXACT}", protocol: TCP}}]
      serverNames: [www.example.com, api.example.com]
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls") / "server.pem", NAMES)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "server.yaml").write_text(POLICY, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def node(lab_name: str, policies: Path, certificate: Path) -> Iterator[Node]:
    workloads = certificate.with_name("workloads.yaml")
    words = {"python": sys.executable, "here": HERE, "file": certificate, "exact": EXACT, "wild": WILD, "http": HTTP}
    workloads.write_text(WORKLOADS.format(**words), encoding="utf-8")
    with Lab.up(lab_name, [workloads], policies=policies, progress=Progress(quiet=True)) as lab:
        yield Node(lab)


@pytest.fixture(scope="module")
def trusting(certificate: Path) -> ssl.SSLContext:
    """Trusts nobody but the server itself."""
    return ssl.create_default_context(cafile=f"{certificate}.crt")


def curl(node: Node, certificate: Path, name: str, target: str = SERVER, source: str = CLIENT, path: str = "/") -> Curl:
    resolve = ("--resolve", f"{name}:{EXACT}:{node.address(target, 4)}")
    return Curl(node, *resolve, "--cacert", f"{certificate}.crt", f"https://{name}{path}", source=source)


@contextmanager
def tls(
    node: Node, context: ssl.SSLContext, name: str | None, port: int = EXACT, ip: int = 4, source: str = CLIENT
) -> Iterator[ssl.SSLSocket]:
    """A connection whose handshake is still to come."""
    with (
        node.connection(port, ip, source) as plain,
        context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False) as connection,
    ):
        yield connection


def refused(node: Node, context: ssl.SSLContext, name: str | None, port: int = EXACT, ip: int = 4) -> Flow:
    """The record of a connection that ends by a reset instead of a handshake."""
    before = asked_for(node)
    with tls(node, context, name, port, ip) as connection:
        local = int(connection.getsockname()[1])
        with pytest.raises(ConnectionResetError):
            connection.do_handshake()
    assert asked_for(node) == before, "the server never hears of it"
    return node.flow(local, lambda flow: flow.verdict in (Verdict.DROPPED, Verdict.ERROR))


def asked_for(node: Node, pod: str = SERVER) -> list[str]:
    """The names that have reached a server."""
    return node.lab.log(pod).splitlines()


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(POLICY.splitlines(), 1) if text in line)


# -- allowed -------------------------------------------------------------------------------------------------------


def test_curl_reaches_the_server_by_an_allowed_name(node: Node, certificate: Path) -> None:
    """It trusts nobody else, so nobody else has answered."""
    done = curl(node, certificate, "www.example.com")
    assert (done.exit_code, done.only.status, done.body) == (0, 200, b"hello\n")
    flow = node.flow(done.only.port, lambda flow: "TLS" in flow.summary)
    assert (flow.verdict, flow.summary) == (Verdict.FORWARDED, 'TLS server name "www.example.com"')


@pytest.mark.parametrize("ip", [4, 6])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_the_certificate_is_the_servers_own(node: Node, certificate: Path, version: ssl.TLSVersion, ip: int) -> None:
    context = ssl.create_default_context(cafile=f"{certificate}.crt")
    context.minimum_version = context.maximum_version = version
    with tls(node, context, "www.example.com", ip=ip) as connection:
        connection.do_handshake()
        own = ssl.PEM_cert_to_DER_cert(Path(f"{certificate}.crt").read_text(encoding="ascii"))
        assert connection.getpeercert(binary_form=True) == own
        http = Http(connection)
        for _ in range(3):
            assert http.request("GET", "/secret").body == b"hello\n"
        assert len(http.request("GET", "/large").body) == 1 << 20


@pytest.mark.parametrize(
    ("name", "port"), [("WWW.Example.COM", EXACT), ("a.example.com", WILD), ("x-1.example.com", WILD)]
)
def test_names_that_a_pattern_means(node: Node, trusting: ssl.SSLContext, name: str, port: int) -> None:
    with tls(node, trusting, name, port) as connection:
        connection.do_handshake()
        assert Http(connection).request("GET", "/").status == 200


# -- refused -------------------------------------------------------------------------------------------------------


def test_curl_is_reset_by_a_denied_name(node: Node, certificate: Path) -> None:
    before = asked_for(node)
    done = curl(node, certificate, "api.example.com")
    assert (done.exit_code, done.only.status, done.body) == (35, 0, b"")
    assert asked_for(node) == before


@pytest.mark.parametrize("ip", [4, 6])
def test_a_refusal_is_on_record_with_the_name_and_the_pattern(
    node: Node, trusting: ssl.SSLContext, policies: Path, ip: int
) -> None:
    flow = refused(node, trusting, "api.example.com", ip=ip)
    place = f"server ingress[0], {policies / 'server.yaml'}:{line_of('- toPorts:')}"
    said = f'TLS server name "api.example.com": server name "api.example.com" is not "www.example.com" ({place})'
    assert (flow.verdict, flow.summary) == (Verdict.DROPPED, said)
    assert flow.traffic_direction is TrafficDirection.INGRESS
    assert (flow.source.pod_name, flow.destination.pod_name) == ("client", "server")


@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("example.com", EXACT),
        ("www.example.com.evil.org", EXACT),
        ("wwwXexample.com", EXACT),
        ("example.com", WILD),
        ("a.b.example.com", WILD),
        ("evilexample.com", WILD),
        ("a.example.com.evil.org", WILD),
    ],
)
def test_names_that_only_look_like_it(node: Node, trusting: ssl.SSLContext, name: str, port: int) -> None:
    flow = refused(node, trusting, name, port)
    pattern = "www.example.com" if port == EXACT else "*.example.com"
    assert flow.verdict is Verdict.DROPPED
    assert f'server name "{name}" is not "{pattern}"' in flow.summary


@pytest.mark.parametrize("port", [EXACT, WILD])
def test_a_client_that_names_no_server_is_reset(node: Node, port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    flow = refused(node, context, None, port)
    assert flow.verdict is Verdict.DROPPED
    assert flow.summary.startswith("TLS without a server name: the client names no server (server ingress[")


def test_curl_to_an_address_is_reset(node: Node) -> None:
    """In place of an address there is no name (RFC 6066 §3)."""
    done = Curl(node, "--insecure", f"https://{node.address(SERVER, 4)}:{WILD}/")
    assert (done.exit_code, done.only.status) == (35, 0)


def test_plain_http_to_a_port_for_tls_is_reset(node: Node) -> None:
    done = Curl(node, f"http://www.example.com:{EXACT}/", "--connect-to", f"::{node.address(SERVER, 4)}:{EXACT}")
    assert (done.exit_code, done.only.status, done.body) == (56, 0, b"")
    flow = node.flow(done.only.port, lambda flow: flow.verdict is Verdict.ERROR)
    assert "TLS" in flow.summary


def test_a_hello_that_is_cut_off_is_reset(node: Node) -> None:
    with node.connection(EXACT) as connection:
        local = int(connection.getsockname()[1])
        connection.sendall(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03")
        connection.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            connection.recv(64)
    flow = node.flow(local, lambda flow: flow.verdict is Verdict.ERROR)
    assert "the client stopped before its TLS hello was complete" in flow.summary


def test_a_look_at_the_open_port_is_no_failure(node: Node) -> None:
    with node.connection(EXACT) as connection:
        local = int(connection.getsockname()[1])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(64) == b""
    refused(node, ssl.create_default_context(), "api.example.com")  # by now there would be a record
    verdicts = [flow.verdict for flow in node.lab.flows() if flow.l4 and flow.l4.source_port == local]
    assert verdicts == [Verdict.REDIRECTED]


def test_tls_to_a_port_with_http_rules_is_reset_and_the_record_says_why(node: Node, certificate: Path) -> None:
    to = ("--connect-to", f"::{node.address(SERVER, 4)}:{HTTP}")
    done = Curl(node, *to, "--cacert", f"{certificate}.crt", "https://www.example.com/public")
    assert (done.exit_code, done.only.status) == (35, 0)
    flow = node.flow(done.only.port, lambda flow: flow.verdict is Verdict.ERROR)
    assert "the client speaks TLS, and HTTP rules can not see into it" in flow.summary


# -- both directions -----------------------------------------------------------------------------------------------


def test_egress_rules_judge_names_as_well(node: Node, certificate: Path) -> None:
    allowed = curl(node, certificate, "api.example.com", OPEN, CALLER)
    assert (allowed.exit_code, allowed.body) == (0, b"hello\n")
    before = asked_for(node, OPEN)
    denied = curl(node, certificate, "other.example.com", OPEN, CALLER)
    assert (denied.exit_code, denied.only.status) == (35, 0)
    assert asked_for(node, OPEN) == before
    flow = node.flow(denied.only.port, lambda flow: flow.verdict is Verdict.DROPPED)
    assert flow.traffic_direction is TrafficDirection.EGRESS
    assert 'server name "other.example.com" is not "api.example.com" (caller egress[0]' in flow.summary
    assert 'server name "other.example.com" is not "www.example.com" (caller egress[0]' in flow.summary
    assert curl(node, certificate, "other.example.com", OPEN).body == b"hello\n", "others may"


def test_a_name_must_do_for_both_ends(node: Node, certificate: Path) -> None:
    assert curl(node, certificate, "www.example.com", SERVER, CALLER).body == b"hello\n"
    denied = curl(node, certificate, "api.example.com", SERVER, CALLER)
    assert denied.exit_code == 35
    flow = node.flow(denied.only.port, lambda flow: flow.verdict is Verdict.DROPPED)
    assert flow.traffic_direction is TrafficDirection.INGRESS


# -- a new policy --------------------------------------------------------------------------------------------------


def read_unread(connection: ssl.SSLSocket) -> None:
    """To the end, as it came: `recv` of TLS does not tell a reset from an end."""
    while socket.socket.recv(connection, 1 << 16):
        pass


def test_a_name_that_is_no_longer_allowed_ends_its_connections_and_no_others(
    node: Node, trusting: ssl.SSLContext, policies: Path, restored: Callable[[str], None]
) -> None:
    text = (policies / "server.yaml").read_text(encoding="utf-8")
    with tls(node, trusting, "www.example.com") as exact, tls(node, trusting, "a.example.com", WILD) as wild:
        for connection in (exact, wild):
            connection.do_handshake()
        local = int(exact.getsockname()[1])
        restored(text.replace("serverNames: [www.example.com]", "serverNames: [new.example.com]"))
        exact.settimeout(PATIENCE_S)
        with pytest.raises(ConnectionResetError):
            read_unread(exact)
        assert Http(wild).request("GET", "/").status == 200
    node.flow(local, lambda flow: 'server name "www.example.com" is not "new.example.com"' in flow.summary)
    told = [flow.summary for flow in node.lab.flows() if flow.l4 and flow.l4.source_port == local]
    assert not any("another protocol" in summary for summary in told), told

    def is_back() -> bool:
        with tls(node, trusting, "www.example.com") as connection:
            try:
                connection.do_handshake()
            except ConnectionResetError:
                return False
            return True

    restored(text)
    eventually(is_back)
