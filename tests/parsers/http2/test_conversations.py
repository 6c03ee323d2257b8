"""Random conversations: the server sees the permitted requests and nothing else, however the bytes arrive."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parsers.http.judging import Denial
from tests.parsers.http2.driving import GRPC, Headers, PathJudge, Wire, request

SETTINGS = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a client."""

    path: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    trailers: bool
    cancels: bool
    turn: bool

    @property
    def headers(self) -> Headers:
        return request(self.path, *self.fields, method=b"GET" if self.body is None else b"POST")


FIELDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"x-a", b"x-b", b"cookie"]), st.sampled_from([b"1", b"2", b"a longer value"])),
        st.sampled_from(GRPC),
    ),
    max_size=4,
).map(tuple)
ASKS = st.builds(
    Ask,
    st.sampled_from([b"/a", b"/b?c=d", b"/x/../a", b"/deny", b"/deny/b", b"/x/../deny", b"/a%2Fb"]),
    FIELDS,
    st.one_of(st.none(), st.sampled_from([b"", b"x", b"y" * 3000])),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
    st.booleans(),
)
TALKS = st.lists(ASKS, min_size=1, max_size=12)
FORWARDED = {b"/a": b"/a", b"/b?c=d": b"/b?c=d", b"/x/../a": b"/a"}


def play(wire: Wire, talk: list[Ask]) -> dict[int, Ask]:
    """The requests by their stream."""
    asked = {}
    for ask in talk:
        number = wire.ask(ask.headers, end=ask.body is None)
        asked[number] = ask
        if ask.turn:
            wire.run()
        _finish(wire, number, ask)
    wire.run()
    return asked


def _finish(wire: Wire, number: int, ask: Ask) -> None:
    seen = wire.at_client.get(number)
    if seen is not None and (seen.ended or seen.reset is not None):
        return
    if ask.cancels:
        wire.client.reset_stream(number)
    elif ask.body is not None:
        wire.client.send_data(number, ask.body, end_stream=not ask.trailers)
        if ask.trailers:
            wire.client.send_headers(number, [(b"x-t", b"1")], end_stream=True)


def joined(headers: Headers) -> Headers:
    """As h2 hands them out: the parts of a cookie as one."""
    cookies = [value for name, value in headers if name == b"cookie"]
    rest = [field for field in headers if field[0] != b"cookie"]
    return rest + ([(b"cookie", b"; ".join(cookies))] if cookies else [])


def check(wire: Wire, asked: dict[int, Ask]) -> None:
    assert wire.filter.end is None, wire.filter.failure
    expected = [number for number, ask in asked.items() if ask.path in FORWARDED]
    assert [number for number, _ in wire.requests] == expected
    for number in expected:
        ask, seen = asked[number], wire.at_server[number]
        path = FORWARDED[ask.path]
        headers = [(name, path if name == b":path" else value) for name, value in ask.headers]
        assert joined(seen.headers[0]) == joined(headers)
        assert len(seen.headers) == 1
        if not ask.cancels:
            assert (seen.body, seen.ended) == (ask.body or b"", True)
            assert wire.status(number) == 200
    for number, ask in asked.items():
        if ask.path not in FORWARDED and not ask.cancels:
            assert wire.status(number) in (403, 400, 200)
    live = wire.filter._conversation.streams.live
    assert not live
    assert wire.client.outbound_flow_control_window == wire.server.inbound_flow_control_window


@SETTINGS
@given(TALKS, st.sampled_from([1 << 20, 1, 13]))
def test_the_server_sees_what_is_permitted_and_nothing_else(talk: list[Ask], step: int) -> None:
    wire = Wire(step=step).run()
    check(wire, play(wire, talk))


@SETTINGS
@given(TALKS)
def test_a_refusal_by_reset_changes_nothing_for_others(talk: list[Ask]) -> None:
    wire = Wire(PathJudge(denial=Denial.RESET)).run()
    asked = play(wire, talk)
    kept = {number: ask for number, ask in asked.items() if ask.path in FORWARDED}
    check(wire, kept)


@SETTINGS
@given(TALKS, st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_judge_may_change_at_any_time(talk: list[Ask], strict: list[bool]) -> None:
    """Each stream meets the judge of its moment."""
    wire = Wire().run()
    permitted = []
    for ask, is_strict in zip(talk, strict, strict=False):
        wire.filter.judge = PathJudge((lambda request: False) if is_strict else PathJudge().permit)
        number = wire.ask(ask.headers, end=ask.body is None)
        if ask.body is not None:
            wire.client.send_data(number, ask.body, end_stream=True)
        wire.run()
        if ask.path in FORWARDED and not is_strict:
            permitted.append(number)
    assert [number for number, _ in wire.requests] == permitted


@settings(max_examples=400)
@given(st.lists(st.binary(max_size=80), max_size=5), st.booleans())
def test_any_bytes_of_a_client_end_in_a_verdict(pieces: list[bytes], behind_settings: bool) -> None:
    wire = Wire()
    wire.raw_from_client(wire.client.data_to_send() if behind_settings else b"")
    for piece in pieces:
        if wire.filter.end is None:
            wire.filter.client_data(piece, 0)
    wire.filter.finish(0)


FRAMES = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 63), st.integers(0, 7), st.binary(max_size=30)), max_size=8
)


@settings(max_examples=400)
@given(FRAMES, FRAMES)
def test_any_frames_of_both_sides_end_in_a_verdict(
    client: list[tuple[int, int, int, bytes]], server: list[tuple[int, int, int, bytes]]
) -> None:
    from parsers.http2 import frames

    wire = Wire()
    wire.answers = False
    wire.get(b"/a")
    wire.ask(request(b"/b", method=b"POST"), end=False)
    wire.run()
    for mine, theirs in zip(client, server, strict=False):
        if wire.filter.end is None:
            wire.filter.client_data(frames.frame(*mine), 0)
        if wire.filter.end is None:
            wire.filter.server_data(frames.frame(*theirs), 0)
    wire.filter.finish(0)
