"""One redirected connection: the client's side, the server's side, and how they end.

    Downstream (client's bytes) ──▶ filter ──▶ upstream.write
    client.write ◀── filter ◀── Upstream (server's bytes)

The server is connected to when the first request is permitted, not before: a client that is refused everything never
makes a connection. A side that can not take more pauses the reading of the other. Nothing is buffered beyond what
the transports' high-water marks allow.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

from config.policy.resolved import Direction
from parsers.dns.filter import DnsFilter
from parsers.facts import ClientHello
from parsers.filters import End, Filter, Way
from parsers.http.opening import Opening
from parsers.http1.filter import Http1Filter
from parsers.http2.filter import Http2Filter
from parsers.kafka.filter import KafkaFilter
from parsers.tls.filter import NameRuling, TlsFilter
from proxy.datapath import ConnectionFacts
from proxy.flows import wire
from proxy.flows.model import Verdict
from proxy.worker.congestion import unpace
from proxy.worker.floods import FLOODS
from proxy.worker.judges import ConnectionJudge, ConnectionRefused, DnsJudge, HttpJudge, KafkaJudge, NameJudge, Note
from proxy.worker.relay import RELAYED_FROM
from proxy.worker.side import LINGER_NS, MAX_LINGER_NS, NO_HOLD, Hold, Side
from proxy.worker.upstream import Upstream, UpstreamError, connect_upstream

if TYPE_CHECKING:
    from proxy.worker.main import Worker

WAKE_SLACK_S = 0.001
"""Timers of the loop count whole milliseconds: a filter is not woken before its time."""

_PROTOCOLS: dict[type[Filter], str] = {TlsFilter: "tls", KafkaFilter: "kafka", DnsFilter: "dns"}
"""What a failure is told to be about; all else is HTTP."""


class Downstream(Side):
    """The client's side, and the connection itself."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.id = 0
        self.is_reported = False
        self.last_activity = 0
        self.unfinished_head = 0
        self.head_since = 0
        self.lingering_since = 0
        self.filter: Filter
        self._names: NameJudge
        self._worker = worker
        self._upstream: Upstream | None = None
        self._for_server: list[bytes] = []
        self._for_server_bytes = 0
        self._client_is_done = False
        self._is_full = False
        self._bulk = worker.limits.buffer_high_water
        """Who reads more at once than may wait to be written has much to pass, and has written it by then."""

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        self.last_activity = monotonic_ns()
        self.client = transport.get_extra_info("peername")[:2]
        self.server = transport.get_extra_info("sockname")[:2]
        facts = self._worker.admit(self)
        if facts is None:
            self.reset()
            return
        self.facts: ConnectionFacts = facts
        if self._worker.is_default_paced and facts.source_endpoint:
            unpace(transport.get_extra_info("socket"))
        judge = self._worker.judge(facts, self.server)
        if isinstance(judge, ConnectionRefused):
            self._worker.reports.failure(
                self, self.last_activity, Verdict.DROPPED, judge.direction, judge.reason, "connection refused"
            )
            self.reset()
            return
        self.filter = self._filter_for(judge)
        transport.set_write_buffer_limits(high=self._worker.limits.buffer_high_water)
        self._worker.connections.add(self)

    def _filter_for(self, judge: ConnectionJudge) -> Filter:
        worker = self._worker
        if isinstance(judge, NameJudge):
            self._names = judge
            return TlsFilter(self, worker.tls)
        if isinstance(judge, KafkaJudge):
            return KafkaFilter(judge, worker.kafka, self.server, self, self)
        if isinstance(judge, DnsJudge):
            return DnsFilter(worker.dns, judge, worker.opener(self.facts.source_endpoint), self)
        return Opening(judge, worker.http1, worker.http2, self, self._choose)

    def _choose(self, filter_: Filter) -> None:
        """The first bytes have shown which protocol it is."""
        self.filter = filter_

    def rule_name(self, hello: ClientHello) -> NameRuling:
        """`parsers.tls.filter.ServerNameJudge`, with a record of it."""
        ruling = self._names.rule_name(hello)
        assert isinstance(ruling.note, Note)
        said = f'TLS server name "{hello.server_name}"' if hello.server_name else "TLS without a server name"
        self._worker.reports.judged_name(self, self.last_activity, ruling.note, said)
        return ruling

    # -- parsers.kafka.filter.Valve ----------------------------------------------------------------------------------

    def hold_client(self) -> None:
        self.hold(Hold.FILTER)

    def release_client(self) -> None:
        self.release(Hold.FILTER)

    def hold_server(self) -> None:
        if self._upstream is not None:
            self._upstream.hold(Hold.FILTER)

    def release_server(self) -> None:
        if self._upstream is not None:
            self._upstream.release(Hold.FILTER)

    def send_to_server(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.write(data)
        else:
            self._hold_for_server(data)

    def wake_at(self, when: int) -> None:
        delay = max(0, when - monotonic_ns()) / 1e9
        asyncio.get_running_loop().call_later(delay + WAKE_SLACK_S, self._wake)

    def _wake(self) -> None:
        filter_ = self.filter
        if not isinstance(filter_, KafkaFilter) or self._transport is None or self.lingering_since:
            return
        filter_.wake(monotonic_ns())
        self._send_answer()
        if filter_.end is not None:
            self._end(filter_.end)

    # -- from the client -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        now = self.last_activity = monotonic_ns()
        if self.lingering_since:
            return
        out = self.filter.client_data(data, now)
        filter_ = self.filter
        if out:
            if self._upstream is not None:
                self._upstream.write(out)
            elif filter_.end is None:
                self._hold_for_server(out)
        if filter_.answer:
            self._send_answer()
            if self._is_full:
                # Refusals are for a client that reads them.
                self.hold(Hold.ANSWERS_UNREAD)
        if filter_.end is not None:
            self._end(filter_.end)
        elif len(data) > self._bulk and self._upstream is not None:
            self._relay(Way.FROM_CLIENT, self, self._upstream)

    def eof_received(self) -> bool:
        if self.lingering_since:
            return False
        self.filter.client_eof()
        self._send_answer()
        self._client_is_done = True
        end = self.filter.end
        if end is None and self._upstream is not None and self._upstream.server_is_done:
            end = End.CLOSE  # a tunnel: both ways are over now
        if end is not None:
            self._end(end)
            return False
        if self._upstream is not None:
            self._upstream.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_relays()
        if self not in self._worker.connections:
            return
        self._worker.connections.discard(self)
        self.filter.finish(monotonic_ns())
        if self._upstream is not None:
            self._upstream.reset()
        self._worker.reports.closed(self)

    def pause_writing(self) -> None:
        self._is_full = True
        if self._upstream is not None:
            self._upstream.hold(Hold.OTHER_SIDE_FULL)

    def resume_writing(self) -> None:
        self._is_full = False
        self.release(Hold.ANSWERS_UNREAD)
        if self._upstream is not None:
            self._upstream.release(Hold.OTHER_SIDE_FULL)

    # -- towards the server ----------------------------------------------------------------------------------------

    def _hold_for_server(self, data: bytes) -> None:
        """Keep the first bytes until the server is connected; a client that sends more has to wait."""
        if not self._for_server:
            self._worker.supervisor.start(f"upstream of connection {self.id}", self._connect())
        self._for_server.append(data)
        self._for_server_bytes += len(data)
        if self._for_server_bytes > self._worker.limits.buffer_high_water:
            self.hold(Hold.NOT_CONNECTED)

    async def _connect(self) -> None:
        try:
            sock = await connect_upstream(self.client[0], self.server, self._worker.limits.connect_timeout_s)
        except UpstreamError as error:
            self._fail_upstream(str(error))
            return
        if self._transport is None:
            sock.close()
            return
        if self._worker.is_default_paced and self.facts.destination_endpoint:
            unpace(sock)
        loop = asyncio.get_running_loop()
        upstream = Upstream(self)
        await loop.create_connection(lambda: upstream, sock=sock)
        if self._transport is None or self.lingering_since:
            upstream.reset()
            return
        upstream.set_write_buffer_limit(self._worker.limits.buffer_high_water)
        self._upstream = upstream
        upstream.write(b"".join(self._for_server))
        self._for_server.clear()
        if self._client_is_done:
            upstream.write_eof()
        if self._is_full:
            upstream.hold(Hold.OTHER_SIDE_FULL)
        self.release(Hold.NOT_CONNECTED)

    def _fail_upstream(self, reason: str) -> None:
        self.filter.server_unreachable(reason, monotonic_ns())
        self._send_answer()
        self._end(self.filter.end or End.CLOSE)

    # -- from the server -------------------------------------------------------------------------------------------

    def server_data(self, data: bytes) -> None:
        if self.lingering_since or self._transport is None:
            return
        now = self.last_activity = monotonic_ns()
        filter_ = self.filter
        out = filter_.server_data(data, now)
        if out:
            self._transport.write(out)
        if filter_.answer:
            self._send_answer()
        if filter_.end is not None:
            self._end(filter_.end)
        elif len(data) > self._bulk and self._upstream is not None:
            self._relay(Way.FROM_SERVER, self._upstream, self)

    def server_eof(self) -> None:
        if self.lingering_since:
            return
        self.filter.server_eof()
        self._send_answer()
        if self.filter.end is not None:
            self._end(self.filter.end)
        elif self._client_is_done:
            self._end(End.CLOSE)
        elif self._transport is not None:
            self._transport.write_eof()

    def server_lost(self, exc: Exception | None) -> None:
        self._upstream = None
        self.stop_relay()
        if self._transport is None or self.lingering_since:
            return
        if exc is not None:
            self._end(End.ABORT)
        else:
            self.server_eof()

    # -- past the filter ---------------------------------------------------------------------------------------------

    def _relay(self, way: Way, source: Side, sink: Side) -> None:
        """The last byte is the filter's: it has to see where a body ends."""
        worker, count = self._worker, self.filter.unread(way) - 1
        if count < RELAYED_FROM:
            return
        if not worker.pipes.left:
            worker.reports.limit("max_relays")
        elif source.relay_to(sink, self, way, count, worker.pipes):
            worker.reports.counters["relays"] += 1

    def relayed(self, way: Way, count: int) -> None:
        self.last_activity = monotonic_ns()
        self.filter.passed(way, count)
        self._worker.reports.counters["relayed_bytes"] += count

    def relay_ended(self, way: Way, error: OSError | None) -> None:
        source = self if way is Way.FROM_CLIENT else self._upstream
        if error is not None or source is None:
            self.abort()
            return
        source.stop_relay()
        self._send_answer()

    def _stop_relays(self) -> bool:
        """True if bytes for the client have been lost. Those for the server are of no use to it any more."""
        self.stop_relay()
        return self._upstream is not None and self._upstream.stop_relay()

    # -- ends ------------------------------------------------------------------------------------------------------

    def _send_answer(self) -> None:
        if self._upstream is not None and self._upstream.relay is not None:
            return  # not into the middle of what passes
        if self.filter.answer and self._transport is not None:
            self._transport.write(self.filter.answer)
            self.filter.answer = b""

    def _end(self, end: End) -> None:
        is_flood = self.filter.limit in FLOODS
        self._report_failure()
        if self._stop_relays() or end is End.ABORT:
            self.abort()
            return
        self._send_answer()
        if self._upstream is not None:
            if self.filter.awaits_server_close:
                self._upstream.linger(self._worker)
            else:
                self._upstream.close()
            self._upstream = None
        if self._transport is None or self.lingering_since:
            return
        self.lingering_since = monotonic_ns()
        if self._client_is_done:
            self._transport.close()
        elif is_flood:
            # It may take our last answer from the network, but what more it sends is not even read.
            self.hold(Hold.OTHER_SIDE_FULL)
            self._transport.write_eof()
        else:
            # Closing with unread bytes would reset the connection and could take our last answer with it.
            self.release(~NO_HOLD)
            self._transport.write_eof()

    def _report_failure(self) -> None:
        filter_ = self.filter
        self._worker.reports.limit(filter_.limit)
        self._worker.floods.note(self.client[0], filter_.limit, self.last_activity)
        is_told = isinstance(filter_, TlsFilter) and filter_.ruling is not None and not filter_.ruling.permit
        if filter_.failure and not is_told:
            protocol = _PROTOCOLS.get(type(filter_), "http")
            self._worker.reports.failure(
                self, monotonic_ns(), Verdict.ERROR, Direction.INGRESS, filter_.failure, protocol
            )
        filter_.failure = filter_.limit = ""

    def abort(self) -> None:
        """Reset both sides at once."""
        self._stop_relays()
        if self._upstream is not None:
            self._upstream.reset()
            self._upstream = None
        self.reset()

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, or nothing has ever been."""
        return bool(self.lingering_since) or self.filter.is_idle

    # -- what the worker asks of its connections ---------------------------------------------------------------------

    def describe(self) -> wire.Connection:
        return wire.Connection(
            self.id,
            self.client[0],
            self.client[1],
            self.server[0],
            self.server[1],
            self.facts.source_endpoint,
            self.facts.destination_endpoint,
            self.facts.source_identity,
            self.facts.destination_identity,
        )

    def judge_anew(self) -> None:
        """A new snapshot is in force: the next request meets it, or the connection ends as it is not allowed."""
        if self.lingering_since:
            return
        judge = self._worker.judge(self.facts, self.server)
        if isinstance(judge, ConnectionRefused):
            self._worker.reports.failure(
                self, monotonic_ns(), Verdict.DROPPED, judge.direction, judge.reason, "permission withdrawn"
            )
            self.abort()
        else:
            self._take(judge)

    def _take(self, judge: ConnectionJudge) -> None:
        """Put the connection under another judge; end it if that one does not permit it, or judges other things."""
        match self.filter, judge:
            case TlsFilter(hello=hello), NameJudge():
                self._names = judge
                if hello is not None and not judge.rule_name(hello).permit:
                    self.rule_name(hello)
                    self.abort()
            case ((Opening() | Http1Filter() | Http2Filter() as filter_), HttpJudge()):
                filter_.judge = judge
            case ((KafkaFilter() as filter_), KafkaJudge()):
                filter_.judge = judge
            case ((DnsFilter() as filter_), DnsJudge()):
                filter_.judge = judge
                filter_.opener = self._worker.opener(self.facts.source_endpoint)
            case _:
                why = "the rules of this port are about another protocol now"
                self._worker.reports.failure(self, monotonic_ns(), Verdict.DROPPED, Direction.INGRESS, why)
                self.abort()

    def check_time(self, now: int) -> None:
        """Called every second: end what takes too long."""
        limits = self._worker.limits
        self.check_relay()
        if self._upstream is not None:
            self._upstream.check_relay()
        if self.lingering_since:
            is_over = now - self.last_activity > LINGER_NS or now - self.lingering_since > MAX_LINGER_NS
            if is_over and now - self.lingering_since > LINGER_NS and self._transport is not None:
                self._transport.abort()
            return
        if isinstance(self.filter, DnsFilter):
            self.filter.expire(now)
            self._send_answer()
            if self.filter.end is not None:
                self._end(self.filter.end)
                return
        head = self.filter.unfinished_head
        if head != self.unfinished_head:
            self.unfinished_head, self.head_since = head, now
        elif head and now - self.head_since > limits.header_timeout_s * 1_000_000_000:
            self.filter.time_out()
            self._send_answer()
            self._end(self.filter.end or End.ABORT)
            return
        is_quiet = self.filter.is_idle or self.filter.may_be_silent
        allowed_s = limits.client_idle_timeout_s if is_quiet else limits.stream_idle_timeout_s
        if now - self.last_activity > allowed_s * 1_000_000_000:
            self._worker.reports.counters["timeouts.idle"] += 1
            self.abort()

    def drain(self) -> bool:
        """Close if nothing is under way. True if closed."""
        if self.lingering_since:
            return True
        is_done = self.filter.drain(monotonic_ns())
        self._send_answer()
        if is_done:
            self._end(End.CLOSE)
        return is_done
