"""Whole requests: what they are about, what the judge says, and what becomes of them.

`Requests.take` returns the bytes that go to the server, or raises `UnknownTopics`: the request names topics by ids that
the server has to be asked about first (KIP-516).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from parsers.errors import ParseError
from parsers.facts import KafkaRequest
from parsers.kafka import api_versions, described, metadata, offsets, refusals
from parsers.kafka.answers import Answers, Change, Pending
from parsers.kafka.apis import ADVERTISED_LOWEST, APIS, NAMELESS, TOPIC_ID_CAPS
from parsers.kafka.codecs import decode_request, shape
from parsers.kafka.header import RequestHeader
from parsers.kafka.judging import KafkaExchange, KafkaJudge, KafkaRuling
from parsers.kafka.repeats import Repeat, fetch_pieces, produce_pieces
from parsers.kafka.sessions import FIRST, ShareSessions
from parsers.kafka.skim import FETCH, PRODUCE, Fetch, Produce, Topic, skim_fetch, skim_produce
from parsers.kafka.topic_ids import NO_ID, TopicIds, TopicIdTables
from parsers.kafka.topics import Named, named_topics
from parsers.kafka.wire import Buffer, framed
from parsers.limits import KafkaLimits

METADATA, OFFSET_FETCH, API_VERSIONS, DESCRIBE_TOPICS = 3, 9, 18, 75
SHARE_FETCH = 78
MEMBERS = frozenset((68, 76))
"""Heartbeats of groups that name topics: who may be in no group at all is told that, and not about the topics."""

TELEMETRY = frozenset((71, 72))
"""What clients send about themselves once a server says that it takes it: not said unless a rule permits it."""

MEMO_ENTRIES = 4096
MEMO_BYTES = 512
"""Small requests come again and again (heartbeats, positions); what they name is remembered by their bytes."""

MAX_REFUSED_ENTRIES = 10_000
"""Topics, partitions and the like of a request that is answered by us: each of them costs some 20 µs."""

_NO_SESSION = bytes(4) + b"\xff\xff\xff\xff"
"""Session id 0, epoch -1: a fetch that says all it wants and leaves nothing behind (KIP-227)."""

_RESOLVING_VERSION = 12
"""Of the Metadata requests that ask for the names of ids."""


class UnknownTopics(Exception):
    """Topics that nobody has named yet on this server."""

    def __init__(self, ids: list[bytes]) -> None:
        super().__init__(ids)
        self.ids = ids


class KafkaShared:
    """What the Kafka connections of a worker have in common. `cap`: only versions that name topics by their names."""

    def __init__(self, limits: KafkaLimits, *, cap: bool = False) -> None:
        self.limits = limits
        self.exchanges: list[KafkaExchange] = []
        self.topic_ids = TopicIdTables(limits.topic_ids)
        self.held_bytes = 0
        self.named: dict[bytes, Named | None] = {}
        self.highest = {key: api.highest for key, api in APIS.items()}
        if cap:
            self.highest |= TOPIC_ID_CAPS
            for key in NAMELESS:
                del self.highest[key]
        self.ranges = {key: (ADVERTISED_LOWEST.get(key, APIS[key].lowest), top) for key, top in self.highest.items()}


@dataclass(slots=True)
class _Asked:
    """A request as its handlers see it: `data[start:end]` is the frame without its size."""

    header: RequestHeader
    data: Buffer
    start: int
    end: int
    now: int

    @property
    def body(self) -> bytes:
        return bytes(self.data[self.header.body : self.end])

    @property
    def frame(self) -> bytes:
        """With its size."""
        return bytes(self.data[self.start - 4 : self.end])


class Requests:
    """Of one connection."""

    def __init__(self, judge: KafkaJudge, shared: KafkaShared, ids: TopicIds, tag: object, answers: Answers) -> None:
        self.tag = tag
        self._judge = judge
        self._last_produce: Repeat | None = None
        self._last_fetch: Repeat | None = None
        self._shared = shared
        self._ids = ids
        self._answers = answers
        self._sessions = ShareSessions(shared.limits.session_topics)
        self._given_up: frozenset[bytes] = frozenset()
        self._resolving = 0

    @property
    def judge(self) -> KafkaJudge:
        return self._judge

    @judge.setter
    def judge(self, judge: KafkaJudge) -> None:
        self._judge = judge
        self._last_produce = self._last_fetch = None

    # -- what the filter asks for ----------------------------------------------------------------------------------

    def take(self, header: RequestHeader, data: Buffer, start: int, end: int, now: int) -> bytes | None:
        """A whole request: bytes for the server instead of it, or None: just as it came."""
        self.check_version(header)
        asked = _Asked(header, data, start, end, now)
        handler = _HANDLERS.get(header.key, Requests._other)
        sent = handler(self, asked)
        self._given_up = frozenset()
        return sent

    def repeated(self, data: Buffer, start: int, end: int, now: int) -> bytes | None:
        """Of a whole request that is like the last one: what goes to the server instead of it, b"" for just that.

        None: it is another one.
        """
        last = self._last_produce if not data[start + 1] else self._last_fetch  # the key of Produce is 0
        if last is None or not last.is_like(data, start, end):
            return None
        correlation_id = int.from_bytes(data[start + 4 : start + 8], "big", signed=True)
        exchange = KafkaExchange(self.tag, last.facts, correlation_id, last.ruling, now)
        if last.wants_answer:
            self._answers.expect(Pending(correlation_id, (exchange,), last.flexible))
        else:
            self._answers.tell_unanswered(exchange)
        return _sessionless(data, start, end, start + last.session) if last.session else b""

    def check_version(self, header: RequestHeader) -> None:
        """Raises ParseError for a version that is switched off."""
        highest = self._shared.highest.get(header.key, -1)
        if header.version > highest and header.key != API_VERSIONS:
            raise ParseError(f"{APIS[header.key].name} {header.version} names topics by id, which is switched off")

    def judge_produce(self, header: RequestHeader, produce: Produce, now: int) -> bool:
        """Is a Produce request permitted? If so, its answer is expected from now on."""
        topics = [topic for topic, _ in produce.topics]
        self._resolve(topics)
        facts = self._facts(header, self._names(topics) or None)
        ruling = self.judge.rule_kafka(facts)
        if not ruling.permit or self._unknown(topics):
            return False
        exchange = self._exchange(header, facts, ruling, now)
        self._expect(header, exchange, wants_answer=produce.acks != 0)
        self._given_up = frozenset()
        return True

    def refuse_produce(
        self, header: RequestHeader, produce: Produce, now: int, error: int = 0, reason: str = ""
    ) -> None:
        """All of it has arrived, and none of it goes on."""
        topics = [topic for topic, _ in produce.topics]
        facts = self._facts(header, self._names(topics) or None)
        unknown = self._unknown(topics)
        if unknown and not error:
            error, reason = refusals.UNKNOWN_TOPIC_ID, _unknown_reason(unknown)
        ruling = self.judge.rule_kafka(facts)
        if reason or ruling.permit:
            ruling = self.judge.refuse_kafka(facts, reason or "it was not permitted when it began")
        error = error or refusals.TOPIC_AUTHORIZATION_FAILED
        exchange = self._exchange(header, facts, ruling, now, error)
        if produce.acks == 0:
            # Nobody waits for an answer to this; a server of today would end the connection, which is a refusal, too.
            self._answers.tell_unanswered(exchange)
            return
        answer = refusals.refuse_produce(header.version, header.correlation_id, produce.topics, error)
        self._answers.expect(Pending(header.correlation_id, (exchange,), answer=answer))
        self._given_up = frozenset()

    def ask_for(self, ids: list[bytes]) -> bytes:
        """A request of our own for the names of these ids; its answer is learned from, and nobody else sees it."""
        self._resolving = self._resolving % 0x7FFFFFFF + 1
        header = METADATA.to_bytes(2, "big") + _RESOLVING_VERSION.to_bytes(2, "big")
        header += self._resolving.to_bytes(4, "big") + b"\xff\xff\0"
        self._given_up = frozenset(ids)
        change: Change = partial(self._learn, _RESOLVING_VERSION)
        self._answers.expect(Pending(self._resolving, flexible=True, change=change, is_ours=True))
        return framed(header, metadata.request_for_ids(ids))

    # -- handlers --------------------------------------------------------------------------------------------------

    def _produce(self, asked: _Asked) -> bytes | None:
        header = asked.header
        produce = skim_produce(header.version, asked.data, header.body, asked.end)
        if self.judge_produce(header, produce, asked.now):
            self._remember_produce(asked, produce)
            return None
        self.refuse_produce(header, produce, asked.now)
        return b""

    def _remember_produce(self, asked: _Asked, produce: Produce) -> None:
        if not produce.first:
            return
        header = asked.header
        facts = self._facts(header, self._names(topic for topic, _ in produce.topics))
        pieces = produce_pieces(asked.data, asked.start, produce)
        rest, wants = produce.first - asked.start, produce.acks != 0
        ruling = self.judge.rule_kafka(facts)
        self._last_produce = Repeat(pieces, 0, rest, 0, header.version, header.flexible, wants, facts, ruling)

    def _remember_fetch(self, asked: _Asked, fetch: Fetch, session: int, facts: KafkaRequest) -> None:
        header, start, end = asked.header, asked.start, asked.end
        pieces = fetch_pieces(asked.data, start, end, fetch)
        if pieces:
            at, ruling = session - start if session else 0, self.judge.rule_kafka(facts)
            self._last_fetch = Repeat(pieces, end - start, 0, at, header.version, header.flexible, True, facts, ruling)

    def _fetch(self, asked: _Asked) -> bytes | None:
        header = asked.header
        fetch = skim_fetch(header.version, asked.data, header.body, asked.end)
        if fetch.session and fetch.session_epoch > 0:
            return self._refuse_session(asked, fetch)
        topics = [topic for topic, _ in fetch.topics]
        self._resolve(topics)
        unknown = self._unknown(topics)
        facts = self._facts(header, self._names(topics, known_only=True) if topics else None)
        ruling = self.judge.refuse_kafka(facts, _unknown_reason(unknown)) if unknown else self.judge.rule_kafka(facts)
        if ruling.permit:
            self._expect(header, self._exchange(header, facts, ruling, asked.now))
            at = fetch.session
            has_session = at and bytes(asked.data[at : at + len(_NO_SESSION)]) != _NO_SESSION
            self._remember_fetch(asked, fetch, at if has_session else 0, facts)
            return _sessionless(asked.data, asked.start, asked.end, at) if has_session else None
        error = refusals.UNKNOWN_TOPIC_ID if unknown else refusals.TOPIC_AUTHORIZATION_FAILED
        answer = refusals.refuse_fetch(header.version, header.correlation_id, fetch.topics, error)
        self._refuse_later(asked, facts, ruling, answer, error, fetch.max_wait_ms)
        return b""

    def _refuse_session(self, asked: _Asked, fetch: Fetch) -> bytes:
        """Fetch sessions name only what changed. Each of our fetches says all; a client that is told so begins anew."""
        header = asked.header
        facts = self._facts(header, None)
        ruling = self.judge.refuse_kafka(facts, "a fetch session that is not known here: the client begins anew")
        error = refusals.FETCH_SESSION_ID_NOT_FOUND
        answer = refusals.refuse_fetch(header.version, header.correlation_id, (), 0, error)
        exchange = self._exchange(header, facts, ruling, asked.now, error)
        self._answers.expect(Pending(header.correlation_id, (exchange,), answer=answer))
        return b""

    def _refuse_later(
        self, asked: _Asked, facts: KafkaRequest, ruling: KafkaRuling, answer: bytes, error: int, wait_ms: int
    ) -> None:
        """As long as the server would have waited for records: a client that asks on and on must not spin."""
        exchange = self._exchange(asked.header, facts, ruling, asked.now, error)
        due = asked.now + min(max(wait_ms, 0) * 1_000_000, self._shared.limits.fetch_delay_ns)
        self._answers.expect(Pending(asked.header.correlation_id, (exchange,), answer=answer, due=due))

    def _metadata(self, asked: _Asked) -> bytes | None:
        header, version = asked.header, asked.header.version
        request = metadata.read_request(version, asked.body)
        general = self._facts(header, ())
        allowed = [name for name in request.names if self._sees(header, name)]
        refused = [name for name in request.names if not self._sees(header, name)]
        ruling = self.judge.rule_kafka(general if not allowed else self._facts(header, tuple(allowed)))
        if not ruling.permit:
            return self._refuse(asked, self._facts(header, tuple(request.names)))
        told = self._metadata_exchanges(asked, allowed, refused, ruling)
        looks = version >= metadata.WITH_IDS or bool(refused) or request.everything
        change = partial(self._seen_topics, header, tuple(refused), frozenset(request.ids)) if looks else None
        self._answers.expect(Pending(header.correlation_id, told, header.flexible, change))
        if not refused:
            is_exact = len(request.body) == asked.end - header.body
            return None if is_exact else framed(bytes(asked.data[asked.start : header.body]), request.body)
        if version == 0 and not allowed:
            return framed(bytes(asked.data[asked.start : header.body]), metadata.EVERYTHING_V0)
        body = metadata.rewritten_request(version, request, allowed)
        return framed(bytes(asked.data[asked.start : header.body]), body)

    def _metadata_exchanges(
        self, asked: _Asked, allowed: list[str], refused: list[str], ruling: KafkaRuling
    ) -> tuple[KafkaExchange, ...]:
        """One record of what is permitted, one of what is refused."""
        header = asked.header
        told = []
        if allowed or not refused:
            told.append(self._exchange(header, self._facts(header, tuple(allowed)), ruling, asked.now))
        if refused:
            facts = self._facts(header, tuple(refused))
            error = refusals.TOPIC_AUTHORIZATION_FAILED
            told.append(self._exchange(header, facts, self.judge.rule_kafka(facts), asked.now, error))
        return tuple(told)

    def _seen_topics(
        self, header: RequestHeader, refused: tuple[str, ...], by_id: frozenset[bytes], body: bytes
    ) -> bytes | None:
        answer = metadata.read_answer(header.version, body)
        self._learn_from(answer)
        return metadata.spliced(
            answer, lambda topic: topic.name is None or self._sees(header, topic.name), refused, by_id
        )

    def _sees(self, header: RequestHeader, name: str) -> bool:
        return self.judge.rule_kafka(self._facts(header, (name,))).permit

    def _learn(self, version: int, body: bytes) -> bytes | None:
        self._learn_from(metadata.read_answer(version, body))
        return None

    def _learn_from(self, answer: metadata.MetadataAnswer) -> None:
        if answer.version >= metadata.WITH_IDS:
            for topic in answer.topics:
                if topic.name is not None and topic.id != NO_ID and not topic.error:
                    self._ids.learn(topic.id, topic.name)

    def _described(self, asked: _Asked) -> bytes | None:
        header = asked.header
        request = described.read_request(asked.body)
        if not request.names:
            return self._decide(asked, (), ())
        allowed = [name for name in request.names if self._sees(header, name)]
        refused = [name for name in request.names if not self._sees(header, name)]
        if not allowed:
            return self._refuse(asked, self._facts(header, tuple(request.names)))
        ruling = self.judge.rule_kafka(self._facts(header, tuple(allowed)))
        told = self._metadata_exchanges(asked, allowed, refused, ruling)
        change = partial(self._described_topics, header, tuple(refused))
        self._answers.expect(Pending(header.correlation_id, told, header.flexible, change))
        if not refused:
            return None
        body = described.rewritten_request(request, allowed)
        return framed(bytes(asked.data[asked.start : header.body]), body)

    def _described_topics(self, header: RequestHeader, refused: tuple[str, ...], body: bytes) -> bytes | None:
        return described.spliced(body, lambda name: name is None or self._sees(header, name), refused)

    def _offset_fetch(self, asked: _Asked) -> bytes | None:
        header = asked.header
        named = self._named(asked)
        if named is None or not named.everything:
            return self._other(asked)
        facts = self._facts(header, ())
        ruling = self.judge.rule_kafka(facts)
        if not ruling.permit:
            return self._refuse(asked, facts)
        exchange = self._exchange(header, facts, ruling, asked.now)
        change = partial(self._seen_offsets, header)
        self._answers.expect(Pending(header.correlation_id, (exchange,), header.flexible, change))
        return None

    def _seen_offsets(self, header: RequestHeader, body: bytes) -> bytes | None:
        def is_seen(topic: str | bytes) -> bool:
            name = self._ids.name(topic) if isinstance(topic, bytes) else topic
            return name is not None and self._sees(header, name)

        return offsets.without_topics(header.version, body, is_seen)

    def _api_versions(self, asked: _Asked) -> bytes | None:
        header = asked.header
        facts = self._facts(header, None)
        ruling = self.judge.rule_kafka(facts)
        exchange = self._exchange(header, facts, ruling, asked.now)
        if header.version > APIS[API_VERSIONS].highest:
            exchange.error = refusals.UNSUPPORTED_VERSION
            answer = refusals.unsupported_api_versions(header.correlation_id)
            self._answers.expect(Pending(header.correlation_id, (exchange,), answer=answer))
            return b""
        if not ruling.permit:
            raise ParseError("no rule permits anything here")
        self._named(asked)
        # The header of this answer has no tagged fields in any version, so that everybody can read it.
        change = partial(self._known_versions, header)
        self._answers.expect(Pending(header.correlation_id, (exchange,), False, change))
        return None

    def _known_versions(self, header: RequestHeader, body: bytes) -> bytes:
        ranges = self._shared.ranges
        facts = KafkaRequest(min(TELEMETRY), 0, header.client_id)
        if not self.judge.rule_kafka(facts).permit:
            ranges = {key: span for key, span in ranges.items() if key not in TELEMETRY}
        return api_versions.intersected(header.version, body, ranges)

    def _share_fetch(self, asked: _Asked) -> bytes | None:
        message = decode_request(asked.header.key, asked.header.version, asked.body)
        fetched = [topic.topic_id.bytes if topic.topic_id else NO_ID for topic in message.topics]
        if NO_ID in fetched:
            raise ParseError("a topic has no id")
        self._resolve(fetched)
        group, member, epoch = message.group_id or "", message.member_id or "", message.share_session_epoch
        session = self._sessions.fetch(group, member, epoch, fetched)
        if session is None:
            return self._refuse(
                asked,
                self._facts(asked.header, None),
                refusals.SHARE_SESSION_NOT_FOUND,
                "a share session not known here",
            )
        sent = self._judged(asked, tuple(sorted(session)), message.max_wait_ms, epoch)
        if sent == b"":
            self._sessions.forget(group, member)
        return sent

    def _judged(self, asked: _Asked, ids: tuple[bytes, ...], wait_ms: int, epoch: int) -> bytes | None:
        """A fetch of a share session. One that is refused in the middle is over: the client begins it anew."""
        header = asked.header
        facts = self._facts(header, self._names(ids, known_only=True) if ids else None)
        unknown = self._unknown(ids)
        ruling = self.judge.refuse_kafka(facts, _unknown_reason(unknown)) if unknown else self.judge.rule_kafka(facts)
        if ruling.permit:
            self._expect(header, self._exchange(header, facts, ruling, asked.now))
            return None
        message = decode_request(header.key, header.version, asked.body)
        wanted = refusals.UNKNOWN_TOPIC_ID if unknown else None
        if epoch > FIRST:
            wanted = refusals.SHARE_SESSION_NOT_FOUND
        answer, error = refusals.refuse(header.key, header.version, header.correlation_id, message, error=wanted)
        self._refuse_later(asked, facts, ruling, answer, error, wait_ms)
        return b""

    def _other(self, asked: _Asked) -> bytes | None:
        named = self._named(asked)
        if named is None:
            return self._decide(asked, None, ())
        self._resolve(named.ids)
        if named.everything:
            return self._decide(asked, (), ())
        names = (*named.names, *self._names(named.ids, known_only=True))
        unknown = self._unknown(named.ids)
        return self._decide(asked, tuple(dict.fromkeys(names)) or None, unknown)

    def _decide(self, asked: _Asked, topics: tuple[str, ...] | None, unknown: Iterable[bytes]) -> bytes | None:
        header = asked.header
        facts = self._facts(header, topics)
        if unknown:
            return self._refuse(asked, facts, refusals.UNKNOWN_TOPIC_ID, _unknown_reason(unknown))
        ruling = self.judge.rule_kafka(facts)
        if not ruling.permit:
            return self._refuse(asked, facts)
        self._expect(header, self._exchange(header, facts, ruling, asked.now))
        return None

    # -- what they share ---------------------------------------------------------------------------------------------

    def _named(self, asked: _Asked) -> Named | None:
        """What the request names, remembered by its bytes but for the correlation id."""
        data, start, end = asked.data, asked.start, asked.end
        memo = self._shared.named
        key = bytes(data[start : start + 4]) + bytes(data[start + 8 : end]) if end - start <= MEMO_BYTES else b""
        if key and key in memo:
            return memo[key]
        header = asked.header
        named = named_topics(header.key, header.version, asked.body)
        if key:
            if len(memo) >= MEMO_ENTRIES:
                memo.clear()
            memo[key] = named
        return named

    def _refuse(self, asked: _Asked, facts: KafkaRequest, error: int | None = None, reason: str = "") -> bytes:
        header = asked.header
        ruling = self.judge.refuse_kafka(facts, reason) if reason else self.judge.rule_kafka(facts)
        if shape(header.key, "request", header.version).read(asked.body).entries > MAX_REFUSED_ENTRIES:
            raise ParseError("a request that is refused names too much for an answer", limit="refused_entries")
        message = decode_request(header.key, header.version, asked.body)
        if error is None and header.key in MEMBERS and not self.judge.rule_kafka(self._facts(header, None)).permit:
            error = refusals.GROUP_AUTHORIZATION_FAILED
        refused = None if facts.topics is None else [name for name in facts.topics if not self._sees(header, name)]
        answer, code = refusals.refuse(
            header.key, header.version, header.correlation_id, message, refused or None, error=error
        )
        exchange = self._exchange(header, facts, ruling, asked.now, code)
        self._answers.expect(Pending(header.correlation_id, (exchange,), answer=answer))
        return b""

    @staticmethod
    def _facts(header: RequestHeader, topics: tuple[str, ...] | None) -> KafkaRequest:
        return KafkaRequest(header.key, header.version, header.client_id, topics)

    def _exchange(
        self, header: RequestHeader, facts: KafkaRequest, ruling: KafkaRuling, now: int, error: int = 0
    ) -> KafkaExchange:
        return KafkaExchange(self.tag, facts, header.correlation_id, ruling, now, error=error)

    def _expect(self, header: RequestHeader, exchange: KafkaExchange, wants_answer: bool = True) -> None:
        if wants_answer:
            self._answers.expect(Pending(header.correlation_id, (exchange,), header.flexible))
        else:
            self._answers.tell_unanswered(exchange)

    def _resolve(self, topics: Iterable[Topic]) -> None:
        """Raises UnknownTopics if there are ids that the server has not been asked about for this request."""
        unknown = [topic for topic in self._unknown(topics) if topic not in self._given_up]
        if unknown:
            raise UnknownTopics(unknown)

    def _unknown(self, topics: Iterable[Topic]) -> list[bytes]:
        name = self._ids.name
        return [topic for topic in topics if isinstance(topic, bytes) and name(topic) is None]

    def _names(self, topics: Iterable[Topic], known_only: bool = False) -> tuple[str, ...]:
        """Each topic by its name. Ids that nobody knows are left out, or told as they are: no rule has such a topic."""
        found: dict[str, None] = {}
        for topic in topics:
            name = self._ids.name(topic) if isinstance(topic, bytes) else topic
            if name is not None:
                found[name] = None
            elif not known_only and isinstance(topic, bytes):
                found[topic.hex()] = None
        return tuple(found)


def _sessionless(data: Buffer, start: int, end: int, session: int) -> bytes:
    """A whole fetch, with its size, that opens no session. `session`: the position of session id and epoch."""
    return bytes(data[start - 4 : session]) + _NO_SESSION + bytes(data[session + len(_NO_SESSION) : end])


def _unknown_reason(ids: Iterable[bytes]) -> str:
    return "the server knows no topic with the id " + ", ".join(topic.hex() for topic in list(ids)[:3])


_Handler = Callable[[Requests, _Asked], "bytes | None"]
_HANDLERS: dict[int, _Handler] = {
    PRODUCE: Requests._produce,
    FETCH: Requests._fetch,
    METADATA: Requests._metadata,
    OFFSET_FETCH: Requests._offset_fetch,
    API_VERSIONS: Requests._api_versions,
    DESCRIBE_TOPICS: Requests._described,
    SHARE_FETCH: Requests._share_fetch,
}
