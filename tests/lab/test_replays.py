"""Conversations that Apache Traffic Server is tested with, through our proxy (see replays.py).

Besides what a file expects, whatever is forwarded must arrive unchanged, in both directions. What is left out, and
where we are to do something else than Apache Traffic Server, is said below with its reason. Its method lists
(remap ACLs) and host maps are said as policies here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.lab.replays import SPEAKERS, Ours, Played, Session, complaints, play, sessions_of
from tests.lab.support import Node
from tests.parsers.http1.test_corpus import CORPUS, need

pytestmark = pytest.mark.lab

FOLDER = CORPUS / "ats-replays"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml"))

NO_REPLAY = "settings of Apache Traffic Server, no replay"
TLS = "TLS on the client's side"
HTTP3 = "HTTP/3"
CACHE = "answered from a cache"
HALF = "the client's half of a test that changes the remap rules of Apache Traffic Server between its files"
LEFT_OUT = {
    "chunked_encoding/replays/chunked.replay.yaml#1": TLS,
    "chunked_encoding/replays/large_chunked.replay.yaml#1.1": CACHE,
    "client_connection/exempt_lists/exempt_all.yaml": NO_REPLAY,
    "client_connection/exempt_lists/no_localhost.yaml": NO_REPLAY,
    "client_connection/https_slow_origins.replay.yaml": TLS,
    "h2/replay_h2origin/h1-client-h2-origin.yaml": "TLS, and HTTP/1 translated to HTTP/2",
    "headers/replays/cached_ims_range.replay.yaml": CACHE,
    "headers/replays/hsts.replay.yaml": TLS,
    "ip_allow/replays/h3.replay.yaml": HTTP3,
    "ip_allow/replays/https_categories_external_remap.replay.yaml": TLS,
    "post/replay/post-no-cl.replay.yaml": "a length is asked for; for us it is zero (RFC 9112 §6.3)",
    "redirect/replay/redirect_to_same_origin_on_cache.replay.yaml": "a proxy that follows redirects, and a cache",
    "remap/reload_1.replay.yaml": HALF,
    "remap/reload_2.replay.yaml": HALF,
    "remap/reload_3.replay.yaml": HALF,
    "remap/reload_4.replay.yaml": HALF,
    "remap/remap_acl_get_post_allowed_pp.replay.yaml": "the PROXY protocol; remap_yaml has the same without it",
    "remap_yaml/reload_1.replay.yaml": HALF,
    "remap_yaml/reload_2.replay.yaml": HALF,
    "remap_yaml/reload_3.replay.yaml": HALF,
    "remap_yaml/reload_4.replay.yaml": HALF,
    "timeout/replay/quic_no_activity_timeout.replay.yaml": HTTP3,
    "timeout/slow_server.yaml#2": TLS,
    "timeout/slow_server.yaml#3": TLS,
}
"""Files, sessions (FILE#SESSION) and transactions (FILE#SESSION.NUMBER) that are not played."""

HTTP2 = [
    "chunked_encoding/replays/large_chunked.replay.yaml#2",
    "client_connection/http2_slow_origins.replay.yaml",
    "h2/h2_origin_trailers_h1.replay.yaml",
    "h2/h2get_with_body.yaml",
    "h2/http2_close_connection.yaml",
    "h2/http2_flow_control.replay.yaml",
    "h2/replay/http2_client_reset_keeps_session_reading.replay.yaml",
    "h2/replay/http2_concurrent_streams.replay.yaml",
    "h2/replay/http2_max_active_streams_enforce.replay.yaml",
    "h2/replay/http2_txn_start_read_gate.replay.yaml",
    "h2/replay_rst_stream/http2_rst_stream_client_after_data.yaml",
    "h2/replay_rst_stream/http2_rst_stream_client_after_headers.yaml",
    "h2/replay_rst_stream/http2_rst_stream_server_after_headers.yaml",
    "timeout/slow_server.yaml#4",
    "timeout/slow_server.yaml#5",
]
"""Left out: HTTP/2 inside TLS, of which a proxy that does not terminate it sees the server name only, and translated to
HTTP/1, which we never do. What they are about (resets, early ends, flow control, trailers) is tested in clear text:
tests/parsers/http2, test_h2spec.py, test_http_clients.py, test_grpc.py.
"""

LENGTHS = "the framing of an answer is the origin's, we do not translate it"
PUSH = Ours("PUSH fills the cache of Apache Traffic Server; for us it is a method as any other", status=200)
OURS = {
    "chunked_encoding/replays/chunked.replay.yaml": Ours(LENGTHS, fields=("transfer-encoding",)),
    "chunked_encoding/replays/chunked_h1_flow_control.replay.yaml": Ours(LENGTHS, fields=("transfer-encoding",)),
    "chunked_encoding/replays/large_chunked.replay.yaml#0": Ours(LENGTHS, fields=("transfer-encoding",)),
    "chunked_encoding/replays/chunked_not_last.replay.yaml#0": Ours("what is ambiguous is a bad request", status=400),
    "chunked_encoding/replays/chunked_not_last.replay.yaml#4": Ours("what is ambiguous is a bad request", status=400),
    "chunked_encoding/replays/chunked_trailer_proxied.replay.yaml": Ours(
        "nobody has judged the trailers of requests (the file's second proxy-request is meant for the response)",
        trailers=False,
    ),
    "chunked_encoding/replays/malformed_chunked_header.replay.yaml": Ours("as its comments say", is_cut_off=True),
    "headers/replay/oversized_field.replay.yaml#0.0": Ours("the status that says why (RFC 6585 §5)", status=431),
    "headers/replays/hopbyhop_connection.replay.yaml": Ours(
        "one connection to the origin for each of the client's: what concerns it is passed on",
        fields=("connection", "x-internal-auth", "x-foo", "x-bar"),
    ),
    "remap/replay/regex_map_anchor.replay.yaml#0.5": Ours(
        "as with Cilium, hosts match by case", status=403, fields=("x-origin-marker",)
    ),
    "remap/remap_acl_all_allowed.replay.yaml#0.4": PUSH,
    "remap/remap_acl_get_post_denied.replay.yaml#0.4": PUSH,
    "remap_yaml/remap_acl_all_allowed.replay.yaml#0.4": PUSH,
    "remap_yaml/remap_acl_get_post_denied.replay.yaml#0.4": PUSH,
    **{
        f"remap/replay/regex_map_anchor.replay.yaml#0.{number}": Ours("a host that no rule has is refused", status=403)
        for number in range(4)
    },
}
"""Exceptions, for a transaction, a session or a file."""

RULES: dict[str, list[dict[str, str]]] = {
    "remap/deny_head_post.replay.yaml": [{"method": "GET|PUT|DELETE|PUSH"}],
    "remap/remap_acl_all_denied.replay.yaml": [{"method": "NONE"}],
    "remap/remap_acl_get_allowed.replay.yaml": [{"method": "GET"}],
    "remap/remap_acl_get_post_denied.replay.yaml": [{"method": "PUT|DELETE|PUSH"}],
    "remap/replay/regex_map_anchor.replay.yaml": [{"host": r"cdn\.example\.com"}],
    "remap_yaml/deny_head_post.replay.yaml": [{"method": "GET|PUT|DELETE|PUSH"}],
    "remap_yaml/remap_acl_all_denied.replay.yaml": [{"method": "NONE"}],
    "remap_yaml/remap_acl_get_post_allowed.replay.yaml": [{"method": "GET|POST"}],
    "remap_yaml/remap_acl_get_post_denied.replay.yaml": [{"method": "PUT|DELETE|PUSH"}],
}
"""HTTP rules of the files that need some. Each of these files has a port of its own."""
ALL_ALLOWED = 8200
PORTS = {file: ALL_ALLOWED + 1 + number for number, file in enumerate(RULES)}


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A port where everything is allowed, and one for each file with rules."""
    rules = {ALL_ALLOWED: [{}], **{PORTS[file]: RULES[file] for file in RULES}}
    ports = [
        {"ports": [{"port": str(port), "protocol": "TCP"}], "rules": {"http": http}} for port, http in rules.items()
    ]
    spec = {
        "endpointSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "client"}}], "toPorts": ports}],
    }
    policy = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "replays", "namespace": "shop"},
        "spec": spec,
    }
    folder = tmp_path_factory.mktemp("policies")
    (folder / "server.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    return folder


def levels(key: str) -> list[str]:
    """The key of a transaction or session, and of what it is part of, the narrowest first."""
    file, _, place = key.partition("#")
    return [key, *([f"{file}#{place.partition('.')[0]}"] if "." in place else []), file]


def is_left_out(key: str) -> bool:
    return any(level in LEFT_OUT or level in HTTP2 for level in levels(key))


def ours(key: str) -> Ours:
    return next((OURS[level] for level in levels(key) if level in OURS), Ours("as the file has it"))


def played_sessions() -> Iterator[Session]:
    """Those of which something is left when what is left out is."""
    for session in ALL_SESSIONS:
        kept = [transaction for transaction in session.transactions if not is_left_out(transaction.key)]
        if kept:
            yield Session(session.key, session.stack, kept)


ALL_SESSIONS = [session for file in FILES for session in sessions_of(FOLDER / file, file)]
SESSIONS = list(played_sessions())


def file_of(session: Session) -> str:
    return session.key.partition("#")[0]


def test_every_file_is_played_or_left_out_for_a_reason() -> None:
    need("ats-replays/post/replay/post-continue.replay.yaml")
    assert len(FILES) == 66
    played = {file_of(session) for session in SESSIONS}
    wholly_left_out = {file for file in FILES if is_left_out(file)}
    assert played | wholly_left_out == set(FILES)
    assert not played & wholly_left_out
    assert sum(len(session.transactions) for session in SESSIONS) >= 90


def test_what_is_played_we_speak() -> None:
    assert {session.stack for session in SESSIONS} <= SPEAKERS.keys()


def test_the_tables_name_what_there_is() -> None:
    need("ats-replays/post/replay/post-continue.replay.yaml")
    known = set(FILES)
    for session in ALL_SESSIONS:
        known |= {session.key, *(transaction.key for transaction in session.transactions)}
    for table in (LEFT_OUT, HTTP2, OURS, RULES):
        assert set(table) <= known
    assert {session.stack for session in ALL_SESSIONS if set(levels(session.key)) & set(HTTP2)} == {"http2"}


@pytest.fixture(scope="module")
def played(node: Node) -> dict[str, Played]:
    """Everything, played at once: the slowest takes as long as all of it."""
    return play(node, SESSIONS, lambda session: PORTS.get(file_of(session), ALL_ALLOWED))


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.key)
def test_a_session_goes_as_its_file_has_it(played: dict[str, Played], session: Session) -> None:
    found = {
        transaction.key: wrong
        for transaction in session.transactions
        if (wrong := complaints(played[transaction.key], ours(transaction.key)))
    }
    assert not found
