"""The other ways to refuse, which are settings: saying why in a header, a reset, and silence."""

from __future__ import annotations

from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes

from proxy.flows.model import Flow, Verdict
from proxy.lab import Lab
from proxy.lab.progress import Progress
from tests.lab.clients import Curl
from tests.lab.support import SILENCE_S, Node, eventually, request_bytes

pytestmark = pytest.mark.lab

HTTP1, HTTP2 = 80, 8080
DENIED = b"Access denied\r\n"
WORKLOADS = """
kind: Pod
apiVersion: v1
metadata:
  name: server
  namespace: shop
  labels: {{app: server}}
  annotations:
    lab.penstock.io/run: exec python -m proxy.lab.echo --port {http1}
    lab.penstock.io/run.nghttpd: exec nghttpd --no-tls --htdocs {folder} {http2}
spec: {{containers: [{{ports: [{{containerPort: {http1}}}, {{containerPort: {http2}}}]}}]}}
---
kind: Pod
apiVersion: v1
metadata: {{name: client, namespace: shop, labels: {{app: client}}}}
"""
POLICY = f"""\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: server, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: server}}}}
  ingress:
  - toPorts:
    - ports: [{{port: "{HTTP1}", protocol: TCP}}, {{port: "{HTTP2}", protocol: TCP}}]
      rules: {{http: [{{path: "/public.*"}}]}}
"""


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest, lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A lab whose agent has the settings of the test."""
    folder = tmp_path_factory.mktemp("refusals")
    workloads, policies = folder / "workloads.yaml", folder / "policies"
    workloads.write_text(WORKLOADS.format(folder=folder / "www", http1=HTTP1, http2=HTTP2), encoding="utf-8")
    policies.mkdir()
    (policies / "server.yaml").write_text(POLICY, encoding="utf-8")
    (folder / "www").mkdir()
    for name in ("public", "secret"):
        (folder / "www" / name).write_text(name, encoding="ascii")
    with Lab.up(lab_name, [workloads], policies=policies, settings=request.param, progress=Progress(quiet=True)) as lab:
        yield Node(lab)


TELLING, RESETTING, SILENT = (
    pytest.mark.parametrize("node", [pytest.param(settings, id=name)], indirect=True, scope="module")
    for name, settings in {
        "header": {"http-denied-by-header": True},
        "reset": {"http-deny-response": "reset"},
        "drop": {"http-deny-response": "drop"},
    }.items()
)


class Streams:
    """An HTTP/2 client of one connection: requests, and what has come of them."""

    def __init__(self, node: Node, *paths: str) -> None:
        self.answers: dict[str, str] = {}
        self._paths = dict(zip(range(1, 2 * len(paths), 2), paths, strict=True))
        client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        client.initiate_connection()
        for stream, path in self._paths.items():
            head = [(":method", "GET"), (":scheme", "http"), (":authority", "server.shop"), (":path", path)]
            client.send_headers(stream, head, end_stream=True)
        with node.connection(HTTP2, timeout=SILENCE_S) as connection:
            self.port = int(connection.getsockname()[1])
            connection.sendall(client.data_to_send())
            try:
                while len(self.answers) < len(paths):
                    for event in client.receive_data(connection.recv(1 << 16)):
                        self._note(event)
            except TimeoutError:
                pass  # the rest has no answer

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.answers[self._paths[event.stream_id]] = dict(event.headers)[b":status"].decode()
        elif isinstance(event, h2.events.StreamReset):
            self.answers[self._paths[event.stream_id]] = ErrorCodes(event.error_code).name
        else:
            assert not isinstance(event, h2.events.ConnectionTerminated)


def records(node: Node, port: int, path: str) -> list[Flow]:
    """What is on record of a request, and of its answer if it had one."""

    def is_meant(flow: Flow) -> bool:
        ports = (flow.l4.source_port, flow.l4.destination_port) if flow.l4 else ()
        return flow.l7 is not None and port in ports and path in flow.summary

    return eventually(lambda: [flow for flow in node.lab.flows() if is_meant(flow)])


def is_one_drop(flows: list[Flow]) -> bool:
    """Nothing was sent, so no answer is on record."""
    return [(flow.verdict, flow.is_reply) for flow in flows] == [(Verdict.DROPPED, False)]


# -- a header that says why ----------------------------------------------------------------------------------------


@TELLING
@pytest.mark.parametrize(("port", "option"), [(HTTP1, "--http1.1"), (HTTP2, "--http2-prior-knowledge")])
def test_a_refusal_says_why_in_a_header(node: Node, port: int, option: str) -> None:
    base = f"http://{node.address('shop/server', 4)}:{port}"
    for extra in ((), ("--head",)):
        denied = Curl(node, option, *extra, "--output", "/dev/null", f"{base}/secret").only
        assert denied.status == 403
        assert denied.headers["x-denied-by"].startswith(
            'path "/secret" does not match "/public.*" (server ingress[0], '
        )
        allowed = Curl(node, option, *extra, "--output", "/dev/null", f"{base}/public").only
        assert (allowed.status, "x-denied-by" in allowed.headers) == (200, False)
    assert Curl(node, option, f"{base}/secret").body == DENIED


@TELLING
def test_no_request_puts_lines_of_its_own_into_that_header(node: Node) -> None:
    """What a client sends stands in the reason, in visible ASCII and not at any length."""
    url = f"http://{node.address('shop/server', 4)}:{HTTP1}"
    for path in ("/%0d%0ax-evil:%20yes", "/größe", "/" + "x" * 5000):
        denied = Curl(node, "--path-as-is", url + path).only
        assert denied.status in (400, 403)
        assert "x-evil" not in denied.headers
        told = denied.headers.get("x-denied-by", "")
        assert len(told) <= 512
        assert told.isascii()


# -- a reset -------------------------------------------------------------------------------------------------------


@RESETTING
def test_a_refused_request_of_http1_is_answered_by_a_reset(node: Node) -> None:
    done = Curl(node, f"http://{node.address('shop/server', 4)}:{HTTP1}/secret")
    assert (done.exit_code, done.only.status, done.body) == (56, 0, b"")
    assert is_one_drop(records(node, done.only.port, "/secret"))


@RESETTING
def test_answers_that_are_due_come_before_the_reset(node: Node) -> None:
    with node.http() as http:
        http.send(request_bytes("GET", "/public/1") + request_bytes("GET", "/public/2") + request_bytes("GET", "/no"))
        assert [http.answer().status for _ in range(2)] == [200, 200]
        with pytest.raises(ConnectionResetError):
            http.answer()


@RESETTING
def test_a_refused_stream_is_reset_and_the_others_go_on(node: Node) -> None:
    streams = Streams(node, "/public", "/secret", "/public?again")
    assert streams.answers == {"/public": "200", "/secret": "CANCEL", "/public?again": "200"}
    assert is_one_drop(records(node, streams.port, "/secret"))


# -- silence -------------------------------------------------------------------------------------------------------


@SILENT
def test_a_refused_request_of_http1_is_answered_by_silence(node: Node) -> None:
    with node.http() as http:
        assert http.request("GET", "/public").status == 200
        http.connection.settimeout(SILENCE_S)
        http.send(request_bytes("GET", "/secret") + request_bytes("GET", "/public"))
        with pytest.raises(TimeoutError):
            http.connection.recv(1)
        assert is_one_drop(records(node, http.local_port, "/secret"))
    assert not any("/secret" in line for line in node.server_log())


@SILENT
def test_a_refused_stream_stays_silent_and_the_others_go_on(node: Node) -> None:
    streams = Streams(node, "/public", "/secret", "/public?again")
    assert streams.answers == {"/public": "200", "/public?again": "200"}
    assert is_one_drop(records(node, streams.port, "/secret"))
