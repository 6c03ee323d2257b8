"""HTTP clients and servers that everybody uses, with the proxy between them."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import h2.config
import h2.connection
import h2.events
import pytest
import websockets.sync.client
from h2.errors import ErrorCodes
from websockets.exceptions import ConnectionClosed, InvalidStatus

from proxy.flows.model import Flow, L7Type, TrafficDirection, Verdict
from proxy.lab import Lab
from proxy.lab.progress import Progress
from tests.lab.clients import CLIENT, Curl, nghttp, peak_kib, resident_kib
from tests.lab.servers import PIECE
from tests.lab.support import PATIENCE_S, Node, eventually

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
AIOHTTP, NGINX, NGINX_H2, NGHTTPD, WEBSOCKET, TOO_LARGE, TOO_LARGE_BUT_READ, EXTENDED = range(8080, 8088)
TUNNELS, NO_TUNNELS, ECHO = 3128, 3129, 9000
PAGE = "public page\n"
DENIED = b"Access denied\r\n"
GIB = 1 << 30
MAX_KIB = 150 << 10
MAX_GROWTH_KIB = 32 << 10
NGINX_CONFIG = f"""
daemon off;
master_process off;
user root;
error_log stderr;
pid nginx.pid;
events {{}}
http {{
  access_log off;
  root www;
  default_type text/plain;
  client_max_body_size 1k;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server {{ listen {NGINX}; listen [::]:{NGINX}; }}
  server {{ listen {NGINX_H2} http2; listen [::]:{NGINX_H2} http2; }}
}}
"""
WORKLOADS = """
kind: Pod
apiVersion: v1
metadata:
  name: server
  namespace: shop
  labels: {{app: server}}
  annotations:
    lab.penstock.io/run: exec {python} -P {here}/servers.py {servers}
    lab.penstock.io/run.nginx: exec nginx -p {folder} -c {folder}/nginx.conf -e stderr
    lab.penstock.io/run.nghttpd: exec nghttpd --no-tls --htdocs {folder}/www {nghttpd}
spec:
  containers: [{{ports: [{ports}]}}]
---
kind: Pod
apiVersion: v1
metadata:
  name: target
  namespace: shop
  labels: {{app: target}}
  annotations: {{lab.penstock.io/run: exec python -m proxy.lab.echo --port {echo}}}
spec: {{containers: [{{ports: [{{containerPort: {echo}}}]}}]}}
---
kind: Pod
apiVersion: v1
metadata: {{name: client, namespace: shop, labels: {{app: client}}}}
---
kind: Service
apiVersion: v1
metadata: {{name: server, namespace: shop}}
spec: {{selector: {{app: server}}, ports: [{{port: {aiohttp}}}]}}
---
kind: Service
apiVersion: v1
metadata: {{name: target, namespace: shop}}
spec: {{selector: {{app: target}}, ports: [{{port: {echo}}}]}}
"""
POLICY = f"""\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: server, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: server}}}}
  ingress:
  - toPorts:
    - ports: [{{port: "{AIOHTTP}", endPort: {EXTENDED}, protocol: TCP}}]
      rules: {{http: [{{path: "/public.*"}}]}}
  - toPorts:
    - ports: [{{port: "{TUNNELS}", protocol: TCP}}]
      rules: {{http: [{{method: CONNECT, host: "target[.]shop:{ECHO}"}}]}}
  - toPorts:
    - ports: [{{port: "{NO_TUNNELS}", protocol: TCP}}]
      rules: {{http: [{{}}]}}
"""
VERSIONS = {"1.0": "--http1.0", "1.1": "--http1.1", "2": "--http2-prior-knowledge"}
SERVERS = [
    pytest.param(port, version, id=f"{name}-{version}")
    for name, port, versions in (
        ("nginx", NGINX, ("1.0", "1.1")),
        ("nginx", NGINX_H2, ("2",)),
        ("aiohttp", AIOHTTP, ("1.0", "1.1")),
        ("nghttpd", NGHTTPD, ("2",)),
    )
    for version in versions
]


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """An agent with one worker, so that its memory is that of all connections."""
    folder = tmp_path_factory.mktemp("servers")
    (folder / "nginx.conf").write_text(NGINX_CONFIG, encoding="ascii")
    (folder / "workloads.yaml").write_text(workloads(folder), encoding="utf-8")
    for page in ("www/public/page", "www/secret"):
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text(PAGE, encoding="ascii")
    with (folder / "www/public/large").open("wb") as file:
        file.truncate(GIB)
    (folder / "policies").mkdir()
    (folder / "policies" / "server.yaml").write_text(POLICY, encoding="utf-8")
    files, settings = [folder / "workloads.yaml"], {"workers": 1}
    with Lab.up(lab_name, files, policies=folder / "policies", settings=settings, progress=Progress()) as lab:
        yield Node(lab)


def workloads(folder: Path) -> str:
    kinds = {
        "aiohttp": AIOHTTP,
        "websocket": WEBSOCKET,
        "too-large": TOO_LARGE,
        "too-large-but-read": TOO_LARGE_BUT_READ,
        "extended-connect": EXTENDED,
    }
    servers = [f"{kind}:{port}" for kind, port in kinds.items()] + [f"connect:{TUNNELS}", f"connect:{NO_TUNNELS}"]
    ports = [*range(AIOHTTP, EXTENDED + 1), TUNNELS, NO_TUNNELS]
    return WORKLOADS.format(
        python=sys.executable,
        here=HERE,
        folder=folder,
        servers=" ".join(servers),
        ports=", ".join(f"{{containerPort: {port}}}" for port in ports),
        nghttpd=NGHTTPD,
        aiohttp=AIOHTTP,
        echo=ECHO,
    )


def url(port: int, path: str) -> str:
    return f"http://server.shop:{port}{path}"


def worker_pid(node: Node) -> int:
    return int(node.lab.agent.status()["proxy"]["workers"][0]["pid"])


@pytest.fixture
def bounded(node: Node) -> Iterator[None]:
    """Whatever passes, the worker's memory stays where it was."""
    pid = worker_pid(node)
    before = resident_kib(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    yield
    assert worker_pid(node) == pid
    assert peak_kib(pid) < MAX_KIB
    assert peak_kib(pid) - before < MAX_GROWTH_KIB


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("upload") / "body"
    file.write_bytes(bytes(8 << 20))
    return file


# -- curl ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("port", "version"), SERVERS)
def test_curl_gets_what_is_allowed_and_is_told_what_is_not(node: Node, port: int, version: str) -> None:
    for family in ("--ipv4", "--ipv6"):
        allowed = Curl(node, VERSIONS[version], family, url(port, "/public/page"))
        assert (allowed.only.status, allowed.only.version) == (200, "1.1" if port == NGINX else version.rstrip(".0"))
        assert b"/public/page" in allowed.body if port == AIOHTTP else allowed.body == PAGE.encode()
        denied = Curl(node, VERSIONS[version], family, url(port, "/secret"))
        assert (denied.only.status, denied.body) == (403, DENIED)
        assert denied.exit_code == 0


@pytest.mark.parametrize(("port", "version"), SERVERS)
def test_the_answer_to_head_has_no_body(node: Node, port: int, version: str) -> None:
    for path, status in (("/public/page", 200), ("/secret", 403)):
        done = Curl(node, VERSIONS[version], "--head", "--output", "/dev/null", url(port, path))
        assert (done.exit_code, done.only.status) == (0, status)
        assert status == 200 or done.only.headers["content-length"] == str(len(DENIED))


@pytest.mark.parametrize("port", [NGINX, AIOHTTP])
def test_curl_sends_many_requests_on_one_connection_and_each_is_judged(node: Node, port: int) -> None:
    paths = ["/public/page", "/secret", "/public/page?again", "/secret?again", "/public/page?2", "/public/page?3"]
    done = Curl(node, VERSIONS["1.1"], *(url(port, path) for path in paths))
    assert [transfer.status for transfer in done.transfers] == [403 if "secret" in path else 200 for path in paths]
    assert [transfer.connects for transfer in done.transfers] == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("port", [NGINX_H2, NGHTTPD])
def test_streams_of_one_connection_are_judged_one_by_one(node: Node, port: int) -> None:
    paths = [f"/{'secret' if number % 3 else 'public/page'}?{number}" for number in range(40)]
    statuses, said = nghttp(node, *(url(port, path) for path in paths))
    assert statuses == {path: 403 if "secret" in path else 200 for path in paths}
    assert said.count("Connected") == 1
    assert said.count(PAGE) == 14


def test_a_client_that_waits_for_100_continue_sends_its_body_only_where_it_is_wanted(node: Node) -> None:
    expecting = ("--include", "--header", "expect: 100-continue", "--expect100-timeout", "20", "--data-binary", "@-")
    body = bytes(range(256)) * 4096
    done = Curl(node, *expecting, url(AIOHTTP, "/public/upload"), sent=body)
    assert (done.only.status, done.only.uploaded) == (200, len(body))
    assert done.body.startswith(b"HTTP/1.1 100 Continue\r\n")
    assert hashlib.sha256(body).hexdigest().encode() in done.body
    done = Curl(node, *expecting, url(AIOHTTP, "/secret"), sent=body)
    assert (done.only.status, done.only.uploaded) == (403, 0)
    assert b"100 Continue" not in done.body


def test_the_same_over_http2(node: Node, upload: Path) -> None:
    for path, is_wanted in (("/public/page", True), ("/secret", False)):
        statuses, said = nghttp(node, "--expect-continue", "--data", str(upload), url(NGHTTPD, path))
        assert statuses == {path: 200 if is_wanted else 403}
        assert (":status: 100" in said) is is_wanted
        assert ("send DATA frame" in said) is is_wanted


# -- others --------------------------------------------------------------------------------------------------------


def test_aiohttp_talks_to_aiohttp(node: Node) -> None:
    async def talk() -> list[tuple[int, str]]:
        def made(address: tuple[object, ...]) -> socket.socket:
            return node.lab.socket(CLIENT)

        address = node.address("shop/server", 4)
        connector = aiohttp.TCPConnector(limit=4, socket_factory=made)
        async with aiohttp.ClientSession(f"http://{address}:{AIOHTTP}", connector=connector) as session:

            async def ask(number: int) -> tuple[int, str]:
                path = f"/secret/{number}" if number % 4 == 0 else f"/public/{number}"
                async with session.post(path, data=b"x" * number) as response:
                    return response.status, await response.text()

            return await asyncio.gather(*(ask(number) for number in range(200)))

    for number, (status, text) in enumerate(asyncio.run(talk())):
        if number % 4 == 0:
            assert (status, text) == (403, DENIED.decode())
        else:
            assert status == 200
            assert f'"path": "/public/{number}", "length": {number},' in text


@pytest.mark.parametrize(
    ("paths", "statuses"),
    [
        (["/public/page"], {"2xx": 4000, "4xx": 0}),
        (["/secret"], {"2xx": 0, "4xx": 4000}),
        (["/public/page", "/secret"], {"2xx": 2000, "4xx": 2000}),
    ],
    ids=["allowed", "denied", "mixed"],
)
def test_h2load_counts_the_statuses_that_the_policy_wants(
    node: Node, paths: list[str], statuses: dict[str, int]
) -> None:
    load = ["h2load", "--requests=4000", "--clients=4", "--max-concurrent-streams=50"]
    base = f"http://{node.address('shop/server', 4)}:{NGHTTPD}"
    done = node.lab.exec(CLIENT, [*load, *(base + path for path in paths)], timeout=60)
    assert "4000 done, " in done.stdout
    assert " 0 errored, 0 timeout" in done.stdout, done.stdout
    line = re.search(r"status codes: (.*)", done.stdout)
    assert line is not None
    counted = {kind: int(number) for number, kind in re.findall(r"(\d+) (\dxx)", line[1])}
    assert counted == {"3xx": 0, "5xx": 0, **statuses}


# -- WebSocket -----------------------------------------------------------------------------------------------------


def dialled(node: Node, path: str) -> websockets.sync.client.ClientConnection:
    connection = node.lab.socket(CLIENT)
    connection.settimeout(PATIENCE_S)
    connection.connect((node.address("shop/server", 4), WEBSOCKET))
    return websockets.sync.client.connect(f"ws://server.shop:{WEBSOCKET}{path}", sock=connection, proxy=None)


def test_websocket_messages_come_back_and_the_close_handshake_is_whole(node: Node) -> None:
    large = bytes(range(256)) * 4096
    with dialled(node, "/public/echo") as connection:
        for message in ("text, größer als ASCII", b"\x00\xffbinary", large, "after the large one"):
            connection.send(message)
            assert connection.recv(timeout=PATIENCE_S) == message
        pong = connection.ping()
        assert pong.wait(PATIENCE_S)
        connection.close(4000, "done")
    assert (connection.close_code, connection.close_reason) == (4000, "done")
    eventually(lambda: "closed 4000 done" in node.server_log())


def test_a_websocket_that_its_server_closes(node: Node) -> None:
    with dialled(node, "/public/bye") as connection:
        connection.send("bye")
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=PATIENCE_S)
    assert (connection.close_code, connection.close_reason) == (4001, "as you wish")


def test_a_websocket_to_a_denied_path_gets_403(node: Node) -> None:
    with pytest.raises(InvalidStatus) as raised:
        dialled(node, "/secret/echo")
    response = raised.value.response
    assert (response.status_code, response.body) == (403, DENIED)
    assert not any("/secret/echo" in line for line in node.server_log())


# -- large bodies --------------------------------------------------------------------------------------------------


def test_a_gibibyte_goes_up_in_chunks(node: Node, bounded: None) -> None:
    pieces = GIB // len(PIECE)
    digest = hashlib.sha256()
    for _ in range(pieces):
        digest.update(PIECE)
    with node.connection(AIOHTTP) as connection:
        client = http.client.HTTPConnection("server.shop", AIOHTTP)
        client.sock = connection
        body = (PIECE for _ in range(pieces))
        client.request(
            "POST", "/public/upload", body=body, headers={"transfer-encoding": "chunked"}, encode_chunked=True
        )
        told = client.getresponse().read().decode()
    assert f'"length": {GIB}, "sha256": "{digest.hexdigest()}"' in told


def test_a_gibibyte_comes_down_in_chunks(node: Node, bounded: None) -> None:
    with node.connection(AIOHTTP) as connection:
        client = http.client.HTTPConnection("server.shop", AIOHTTP)
        client.sock = connection
        client.request("GET", f"/public/download/{GIB // len(PIECE)}")
        response = client.getresponse()
        length, cycle = 0, memoryview(PIECE * 2)
        while data := response.read(len(PIECE)):
            assert data == cycle[length % len(PIECE) :][: len(data)]
            length += len(data)
    assert length == GIB


def test_a_gibibyte_comes_down_over_http2(node: Node, bounded: None) -> None:
    told = ("--output", "/dev/null", "--write-out", "%{http_code} %{size_download}")
    done = Curl(node, VERSIONS["2"], *told, url(NGINX_H2, "/public/large"))
    assert (done.exit_code, done.body) == (0, f"200 {GIB}".encode())


# -- servers that do not want the body --------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [TOO_LARGE, NGINX], ids=["by hand", "nginx"])
def test_a_server_that_refuses_a_body_unread_is_heard(node: Node, port: int) -> None:
    upload = ("--header", "expect:", "--data-binary", "@-")
    done = Curl(node, *upload, url(port, "/public/upload"), sent=bytes(8 << 20))
    assert done.only.status == 413
    assert b"arge" in done.body


def test_a_server_that_refuses_the_body_of_a_stream_is_heard(node: Node, upload: Path) -> None:
    statuses, said = nghttp(node, "--data", str(upload), url(NGINX_H2, "/public/upload"), url(NGINX_H2, "/public/page"))
    assert statuses["/public/upload"] == 413
    assert "413 Request Entity Too Large" in said


def test_a_server_that_refuses_a_body_and_reads_it_serves_the_next_request(node: Node) -> None:
    size = 8 << 20
    with node.connection(TOO_LARGE_BUT_READ) as connection:
        for _ in range(2):
            client = http.client.HTTPConnection("server.shop")
            client.sock = connection
            client.request("POST", "/public/upload", body=bytes(size))
            response = client.getresponse()
            assert (response.status, response.read()) == (413, b"too large")
    eventually(lambda: node.server_log().count(f"read {size}") == 2)


# -- CONNECT -------------------------------------------------------------------------------------------------------


def tunnelled(node: Node, port: int, target: str) -> Curl:
    through = ("--proxytunnel", "--proxy", f"http://server.shop:{port}")
    return Curl(node, *through, f"http://{target}/secret/in/the/tunnel")


def test_connect_opens_a_tunnel_where_a_rule_names_the_method(node: Node) -> None:
    done = tunnelled(node, TUNNELS, f"target.shop:{ECHO}")
    assert (done.only.connect_status, done.only.status) == (200, 200)
    assert b"/secret/in/the/tunnel" in done.body
    flow = node.flow(done.only.port, is_request)
    assert flow.summary == f"HTTP/1.1 CONNECT http://target.shop:{ECHO}"


@pytest.mark.parametrize(
    ("port", "target"),
    [(NO_TUNNELS, f"target.shop:{ECHO}"), (TUNNELS, "target.shop:22"), (TUNNELS, f"other.shop:{ECHO}")],
    ids=["rule for every request", "other port", "other host"],
)
def test_connect_is_refused_where_no_rule_means_it(node: Node, port: int, target: str) -> None:
    before = node.server_log()
    done = tunnelled(node, port, target)
    assert (done.only.connect_status, done.only.status) == (403, 0)
    flow = node.flow(done.only.port, is_request)
    assert (flow.verdict, flow.summary) == (Verdict.DROPPED, f"HTTP/1.1 CONNECT http://{target}")
    assert node.server_log() == before


def test_a_rule_for_every_request_permits_all_others(node: Node) -> None:
    done = Curl(node, f"http://server.shop:{NO_TUNNELS}/anything")
    assert done.only.status == 405
    assert "GET /anything" in node.server_log()


def test_extended_connect_is_not_offered_and_refused(node: Node) -> None:
    """RFC 8441: a tunnel in a stream. The server behind offers it, and never hears of the attempt."""
    target = [(":scheme", "http"), (":path", "/public/chat"), (":authority", "server.shop")]
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    client.initiate_connection()
    client.send_headers(1, [(":method", "CONNECT"), (":protocol", "websocket"), *target])
    client.send_headers(3, [(":method", "GET"), *target], end_stream=True)
    seen: list[h2.events.Event] = []
    with node.connection(EXTENDED) as connection:
        connection.sendall(client.data_to_send())
        while not any(isinstance(event, h2.events.StreamEnded) for event in seen):
            seen += client.receive_data(connection.recv(1 << 16))
    answers = [event for event in seen if isinstance(event, h2.events.ResponseReceived)]
    assert [(event.stream_id, dict(event.headers)[b":status"]) for event in answers] == [(3, b"204")]
    resets = [event for event in seen if isinstance(event, h2.events.StreamReset)]
    assert [(event.stream_id, event.error_code) for event in resets] == [(1, ErrorCodes.PROTOCOL_ERROR)]
    assert client.remote_settings.enable_connect_protocol == 0
    assert [line for line in node.server_log() if "stream" in line] == ["stream 3"]


# -- flow records --------------------------------------------------------------------------------------------------


def is_request(flow: Flow) -> bool:
    return flow.l7 is not None and flow.l7.type is L7Type.REQUEST


def records(node: Node, mark: str, count: int) -> list[Flow]:
    """The records of requests with `mark` in their URL, and of their answers."""

    def find() -> list[Flow]:
        found = [flow for flow in node.lab.flows() if flow.l7 and flow.l7.http and mark in flow.l7.http.url]
        return found if len(found) >= count else []

    return eventually(find)


def ask_both(node: Node, mark: str) -> list[Flow]:
    """An allowed and a refused request in one connection, and their records: request, answer, request, answer."""
    page, secret = url(NGINX_H2, f"/public/page?{mark}"), url(NGINX_H2, f"/secret?{mark}")
    nghttp(node, page, secret)
    found = records(node, mark, 4)
    assert len({port_of_client(flow) for flow in found}) == 1
    assert len(found) == 4
    return sorted(found, key=lambda flow: ("secret" in flow.summary, flow.is_reply))


def port_of_client(flow: Flow) -> int:
    assert flow.l4 is not None
    return flow.l4.destination_port if flow.is_reply else flow.l4.source_port


def test_records_of_http2_tell_each_request_and_its_answer(node: Node) -> None:
    allowed, answer, dropped, refusal = flows = ask_both(node, "told")
    page, secret = url(NGINX_H2, "/public/page?told"), url(NGINX_H2, "/secret?told")
    assert [flow.verdict.name for flow in flows] == ["FORWARDED", "FORWARDED", "DROPPED", "FORWARDED"]
    assert [flow.is_reply for flow in flows] == [False, True, False, True]
    assert (allowed.summary, dropped.summary) == (f"HTTP/2 GET {page}", f"HTTP/2 GET {secret}")
    assert answer.l7 is not None
    assert answer.l7.latency_ns > 0
    assert answer.summary == f"HTTP/2 200 {answer.l7.latency_ns // 1_000_000}ms (GET {page})"
    assert refusal.summary == f"HTTP/2 403 0ms (GET {secret})"
    for flow, code in zip(flows, (0, 200, 0, 403), strict=True):
        assert flow.l7 is not None
        assert flow.l7.http is not None
        assert (flow.l7.http.code, flow.l7.http.method, flow.l7.http.protocol) == (code, "GET", "HTTP/2")


def test_records_of_http2_name_policy_rule_and_matcher(node: Node) -> None:
    allowed, _, dropped, _ = ask_both(node, "named")
    assert [policy.name for policy in allowed.ingress_allowed_by] == ["server"]
    assert [policy.name for policy in dropped.ingress_denied_by] == ["server"]
    assert allowed.traffic_direction is dropped.traffic_direction is TrafficDirection.INGRESS
    assert (dropped.source.pod_name, dropped.destination.pod_name) == ("client", "server")
    assert allowed.deciding is not None
    assert (allowed.deciding.rule, allowed.deciding.line) == ("ingress[0]", line_of("- toPorts:"))
    assert Path(allowed.deciding.file).name == "server.yaml"
    assert dropped.deciding is not None
    assert 'path "/secret?named" does not match "/public.*"' in dropped.deciding.reason
    assert f"server ingress[0], {allowed.deciding.file}:{allowed.deciding.line}" in dropped.deciding.reason


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(POLICY.splitlines(), 1) if text in line)
