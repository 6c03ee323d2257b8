"""The error code of an answer, read from the first bytes of its body (Apache Kafka protocol guide, versions of 4.3).

Nobody decodes an answer for its error code. `_LAYOUTS` says, for each kind of request, where in its answer the error
codes are; all else is skipped, and what comes behind the last of them is not even described:

    4, error, string …     bytes to skip; an error code (2 bytes); a string to skip
    bytes                  bytes with their length, to skip
    4*  string*            an array of such
    [ … ]                  an array of structs
    ( … )                  a struct within a struct
    stop                   what follows is of no use
    …@3+  …@0-7            only in these versions; of an array or struct, at its opening bracket
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct, error

from parsers.errors import ParseError

ERROR_NAMES: dict[int, str] = {
    -1: "UNKNOWN_SERVER_ERROR",
    0: "NONE",
    1: "OFFSET_OUT_OF_RANGE",
    2: "CORRUPT_MESSAGE",
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    4: "INVALID_FETCH_SIZE",
    5: "LEADER_NOT_AVAILABLE",
    6: "NOT_LEADER_OR_FOLLOWER",
    7: "REQUEST_TIMED_OUT",
    8: "BROKER_NOT_AVAILABLE",
    9: "REPLICA_NOT_AVAILABLE",
    10: "MESSAGE_TOO_LARGE",
    11: "STALE_CONTROLLER_EPOCH",
    12: "OFFSET_METADATA_TOO_LARGE",
    13: "NETWORK_EXCEPTION",
    14: "COORDINATOR_LOAD_IN_PROGRESS",
    15: "COORDINATOR_NOT_AVAILABLE",
    16: "NOT_COORDINATOR",
    17: "INVALID_TOPIC_EXCEPTION",
    18: "RECORD_LIST_TOO_LARGE",
    19: "NOT_ENOUGH_REPLICAS",
    20: "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    21: "INVALID_REQUIRED_ACKS",
    22: "ILLEGAL_GENERATION",
    23: "INCONSISTENT_GROUP_PROTOCOL",
    24: "INVALID_GROUP_ID",
    25: "UNKNOWN_MEMBER_ID",
    26: "INVALID_SESSION_TIMEOUT",
    27: "REBALANCE_IN_PROGRESS",
    28: "INVALID_COMMIT_OFFSET_SIZE",
    29: "TOPIC_AUTHORIZATION_FAILED",
    30: "GROUP_AUTHORIZATION_FAILED",
    31: "CLUSTER_AUTHORIZATION_FAILED",
    32: "INVALID_TIMESTAMP",
    33: "UNSUPPORTED_SASL_MECHANISM",
    34: "ILLEGAL_SASL_STATE",
    35: "UNSUPPORTED_VERSION",
    36: "TOPIC_ALREADY_EXISTS",
    37: "INVALID_PARTITIONS",
    38: "INVALID_REPLICATION_FACTOR",
    39: "INVALID_REPLICA_ASSIGNMENT",
    40: "INVALID_CONFIG",
    41: "NOT_CONTROLLER",
    42: "INVALID_REQUEST",
    43: "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    44: "POLICY_VIOLATION",
    45: "OUT_OF_ORDER_SEQUENCE_NUMBER",
    46: "DUPLICATE_SEQUENCE_NUMBER",
    47: "INVALID_PRODUCER_EPOCH",
    48: "INVALID_TXN_STATE",
    49: "INVALID_PRODUCER_ID_MAPPING",
    50: "INVALID_TRANSACTION_TIMEOUT",
    51: "CONCURRENT_TRANSACTIONS",
    52: "TRANSACTION_COORDINATOR_FENCED",
    53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    54: "SECURITY_DISABLED",
    55: "OPERATION_NOT_ATTEMPTED",
    56: "KAFKA_STORAGE_ERROR",
    57: "LOG_DIR_NOT_FOUND",
    58: "SASL_AUTHENTICATION_FAILED",
    59: "UNKNOWN_PRODUCER_ID",
    60: "REASSIGNMENT_IN_PROGRESS",
    61: "DELEGATION_TOKEN_AUTH_DISABLED",
    62: "DELEGATION_TOKEN_NOT_FOUND",
    63: "DELEGATION_TOKEN_OWNER_MISMATCH",
    64: "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
    65: "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
    66: "DELEGATION_TOKEN_EXPIRED",
    67: "INVALID_PRINCIPAL_TYPE",
    68: "NON_EMPTY_GROUP",
    69: "GROUP_ID_NOT_FOUND",
    70: "FETCH_SESSION_ID_NOT_FOUND",
    71: "INVALID_FETCH_SESSION_EPOCH",
    72: "LISTENER_NOT_FOUND",
    73: "TOPIC_DELETION_DISABLED",
    74: "FENCED_LEADER_EPOCH",
    75: "UNKNOWN_LEADER_EPOCH",
    76: "UNSUPPORTED_COMPRESSION_TYPE",
    77: "STALE_BROKER_EPOCH",
    78: "OFFSET_NOT_AVAILABLE",
    79: "MEMBER_ID_REQUIRED",
    80: "PREFERRED_LEADER_NOT_AVAILABLE",
    81: "GROUP_MAX_SIZE_REACHED",
    82: "FENCED_INSTANCE_ID",
    83: "ELIGIBLE_LEADERS_NOT_AVAILABLE",
    84: "ELECTION_NOT_NEEDED",
    85: "NO_REASSIGNMENT_IN_PROGRESS",
    86: "GROUP_SUBSCRIBED_TO_TOPIC",
    87: "INVALID_RECORD",
    88: "UNSTABLE_OFFSET_COMMIT",
    89: "THROTTLING_QUOTA_EXCEEDED",
    90: "PRODUCER_FENCED",
    91: "RESOURCE_NOT_FOUND",
    92: "DUPLICATE_RESOURCE",
    93: "UNACCEPTABLE_CREDENTIAL",
    94: "INCONSISTENT_VOTER_SET",
    95: "INVALID_UPDATE_VERSION",
    96: "FEATURE_UPDATE_FAILED",
    97: "PRINCIPAL_DESERIALIZATION_FAILURE",
    98: "SNAPSHOT_NOT_FOUND",
    99: "POSITION_OUT_OF_RANGE",
    100: "UNKNOWN_TOPIC_ID",
    101: "DUPLICATE_BROKER_REGISTRATION",
    102: "BROKER_ID_NOT_REGISTERED",
    103: "INCONSISTENT_TOPIC_ID",
    104: "INCONSISTENT_CLUSTER_ID",
    105: "TRANSACTIONAL_ID_NOT_FOUND",
    106: "FETCH_SESSION_TOPIC_ID_ERROR",
    107: "INELIGIBLE_REPLICA",
    108: "NEW_LEADER_ELECTED",
    109: "OFFSET_MOVED_TO_TIERED_STORAGE",
    110: "FENCED_MEMBER_EPOCH",
    111: "UNRELEASED_INSTANCE_ID",
    112: "UNSUPPORTED_ASSIGNOR",
    113: "STALE_MEMBER_EPOCH",
    114: "MISMATCHED_ENDPOINT_TYPE",
    115: "UNSUPPORTED_ENDPOINT_TYPE",
    116: "UNKNOWN_CONTROLLER_ID",
    117: "UNKNOWN_SUBSCRIPTION_ID",
    118: "TELEMETRY_TOO_LARGE",
    119: "INVALID_REGISTRATION",
    120: "TRANSACTION_ABORTABLE",
    121: "INVALID_RECORD_STATE",
    122: "SHARE_SESSION_NOT_FOUND",
    123: "INVALID_SHARE_SESSION_EPOCH",
    124: "FENCED_STATE_EPOCH",
    125: "INVALID_VOTER_KEY",
    126: "DUPLICATE_VOTER",
    127: "VOTER_NOT_FOUND",
    128: "INVALID_REGULAR_EXPRESSION",
    129: "REBOOTSTRAP_REQUIRED",
    130: "STREAMS_INVALID_TOPOLOGY",
    131: "STREAMS_INVALID_TOPOLOGY_EPOCH",
    132: "STREAMS_TOPOLOGY_FENCED",
    133: "SHARE_SESSION_LIMIT_REACHED",
}
"""As in Apache Kafka's `Errors`."""

_NEVER = 1 << 15

_LAYOUTS: dict[int, tuple[int, str]] = {
    0: (9, "[ string@0-12 16@13+ [ 4 error 8 8@2+ 8@5+ [@8+ 4@8+ string@8+ ] string@8+ ] ]"),  # Produce
    1: (12, "4@1+ error@7+ 4@7+ [ string@0-12 16@13+ [ 4 error 8 8@4+ 8@5+ [@4+ 8@4+ 8@4+ ] 4@11+ bytes ] ]"),  # Fetch
    2: (6, "4@2+ [ string [ 4 error 8*@0 8@1+ 8@1+ 4@4+ ] ]"),  # ListOffsets
    3: (  # Metadata
        9,
        "4@3+ [ 4 string 4 string@1+ ] string@2+ 4@1+ [ error string 16@10+ 1@1+ [ error 4 4 4@7+ "
        "4* 4* 4*@5+ ] 4@8+ ] 4@8-10 error@13+",
    ),
    8: (8, "4@3+ [ string@0-9 16@10+ [ 4 error ] ]"),  # OffsetCommit
    9: (  # OffsetFetch
        6,
        "4@3+ [@0-7 string@0-7 [@0-7 4@0-7 8@0-7 4@5-7 string@0-7 error@0-7 ] ] error@2-7 [@8+ "
        "string@8+ [@8+ string@8-9 16@10+ [@8+ 4@8+ 8@8+ 4@8+ string@8+ error@8+ ] ] error@8+ ]",
    ),
    10: (  # FindCoordinator
        3,
        "4@1+ error@0-3 string@1-3 4@0-3 string@0-3 4@0-3 [@4+ string@4+ 4@4+ string@4+ 4@4+ error@4+ string@4+ ]",
    ),
    11: (6, "4@2+ error"),  # JoinGroup
    12: (4, "4@1+ error"),  # Heartbeat
    13: (4, "4@1+ error [@3+ string@3+ string@3+ error@3+ ]"),  # LeaveGroup
    14: (4, "4@1+ error"),  # SyncGroup
    15: (  # DescribeGroups
        5,
        "4@1+ [ error string@6+ string string string string [ string string@4+ string string bytes bytes ] 4@3+ ]",
    ),
    16: (3, "4@1+ error"),  # ListGroups
    17: (_NEVER, "error"),  # SaslHandshake
    18: (3, "error"),  # ApiVersions
    19: (  # CreateTopics
        5,
        "4@2+ [ string 16@7+ error string@1+ 4@5+ 2@5+ [@5+ string@5+ string@5+ 1@5+ 1@5+ 1@5+ ] ]",
    ),
    20: (4, "4@1+ [ string 16@6+ error string@5+ ]"),  # DeleteTopics
    21: (2, "4 [ string [ 4 8 error ] ]"),  # DeleteRecords
    22: (2, "4 error"),  # InitProducerId
    23: (4, "4@2+ [ string [ error 4 4@1+ 8 ] ]"),  # OffsetForLeaderEpoch
    24: (3, "4 error@4+ [@4+ string@4+ [@4+ string [ 4 error ] ] ] [@0-3 string [ 4 error ] ]"),  # AddPartitionsToTxn
    25: (3, "4 error"),  # AddOffsetsToTxn
    26: (3, "4 error"),  # EndTxn
    27: (1, "[ 8 [ string [ 4 error ] ] ]"),  # WriteTxnMarkers
    28: (3, "4 [ string [ 4 error ] ]"),  # TxnOffsetCommit
    29: (2, "4 error"),  # DescribeAcls
    30: (2, "4 [ error string ]"),  # CreateAcls
    31: (2, "4 [ error string [ error string 1 string 1@1+ string string 1 1 ] ]"),  # DeleteAcls
    32: (  # DescribeConfigs
        4,
        "4 [ error string 1 string [ string string 1 1@1+ 1@0 1 [@1+ string@1+ string@1+ 1@1+ ] 1@3+ string@3+ ] ]",
    ),
    33: (2, "4 [ error string 1 string ]"),  # AlterConfigs
    34: (2, "4 [ string [ 4 error ] ]"),  # AlterReplicaLogDirs
    35: (2, "4 error@3+ [ error string [ string [ 4 8 8 1 ] ] 8@4+ 8@4+ 1@5+ ]"),  # DescribeLogDirs
    36: (2, "error"),  # SaslAuthenticate
    37: (2, "4 [ string error string ]"),  # CreatePartitions
    38: (2, "error"),  # CreateDelegationToken
    39: (2, "error"),  # RenewDelegationToken
    40: (2, "error"),  # ExpireDelegationToken
    41: (2, "error"),  # DescribeDelegationToken
    42: (2, "4 [ string error ]"),  # DeleteGroups
    43: (2, "4 error@1+ [ string [ 4 error string ] ]"),  # ElectLeaders
    44: (1, "4 [ error string 1 string ]"),  # IncrementalAlterConfigs
    45: (0, "4 1@1+ error string [ string [ 4 error string ] ]"),  # AlterPartitionReassignments
    46: (0, "4 error"),  # ListPartitionReassignments
    47: (_NEVER, "error 4 [ string [ 4 error ] ]"),  # OffsetDelete
    48: (1, "4 error"),  # DescribeClientQuotas
    49: (1, "4 [ error string [ string string ] ]"),  # AlterClientQuotas
    50: (0, "4 error string [ string error string [ 1 4 ] ]"),  # DescribeUserScramCredentials
    51: (0, "4 [ string error string ]"),  # AlterUserScramCredentials
    55: (  # DescribeQuorum
        0,
        "error string@2+ [ string [ 4 error string@2+ 4 4 8 [ 4 16@2+ 8 8@1+ 8@1+ ] [ 4 16@2+ 8 8@1+ 8@1+ ] ] ]",
    ),
    57: (0, "4 error string [@0-1 string error string ]"),  # UpdateFeatures
    60: (0, "4 error"),  # DescribeCluster
    61: (0, "4 [ string [ 4 error string [ 8 4 4 8 4 8 ] ] ]"),  # DescribeProducers
    64: (0, "4 error"),  # UnregisterBroker
    65: (0, "4 [ error string string 4 8 8 2 [ string 4* ] ]"),  # DescribeTransactions
    66: (0, "4 error"),  # ListTransactions
    68: (0, "4 error"),  # ConsumerGroupHeartbeat
    69: (  # ConsumerGroupDescribe
        0,
        "4 [ error string string string 4 4 string [ string string string 4 string string string* string "
        "( [ 16 string 4* ] ) ( [ 16 string 4* ] ) 1@1+ ] 4 ]",
    ),
    71: (0, "4 error"),  # GetTelemetrySubscriptions
    72: (0, "4 error"),  # PushTelemetry
    74: (0, "4 error"),  # ListConfigResources
    75: (0, "4 [ error string 16 1 [ error 4 4 4 4* 4* 4* 4* 4* ] 4 ]"),  # DescribeTopicPartitions
    76: (0, "4 error"),  # ShareGroupHeartbeat
    77: (  # ShareGroupDescribe
        0,
        "4 [ error string string string 4 4 string [ string string 4 string string string* ( [ 16 string 4* ] ) ] 4 ]",
    ),
    78: (0, "4 error string 4 [ 16 [ 4 error string error string ( 4 4 ) bytes [ 8 8 2 ] ] ]"),  # ShareFetch
    79: (0, "4 error string 4@2+ [ 16 [ 4 error string ( 4 4 ) ] ]"),  # ShareAcknowledge
    80: (0, "4 error"),  # AddRaftVoter
    81: (0, "4 error"),  # RemoveRaftVoter
    83: (0, "[ 16 [ 4 error string ] ]"),  # InitializeShareGroupState
    84: (0, "[ 16 [ 4 error string 4 8 [ 8 8 1 2 ] ] ]"),  # ReadShareGroupState
    85: (0, "[ 16 [ 4 error string ] ]"),  # WriteShareGroupState
    86: (0, "[ 16 [ 4 error string ] ]"),  # DeleteShareGroupState
    87: (0, "[ 16 [ 4 error string 4 4 8 4@1+ ] ]"),  # ReadShareGroupStateSummary
    88: (0, "4 error"),  # StreamsGroupHeartbeat
    89: (0, "4 [ error stop ]"),  # StreamsGroupDescribe
    90: (0, "4 [ string [ string 16 [ 4 8 4 8@1+ error string ] ] error string ]"),  # DescribeShareGroupOffsets
    91: (0, "4 error string [ string 16 [ 4 error string ] ]"),  # AlterShareGroupOffsets
    92: (0, "4 error string [ string 16 error string ]"),  # DeleteShareGroupOffsets
}
"""By the key of the request: the first version with compact lengths and tagged fields (KIP-482), and the layout."""

_INT16 = Struct(">h")
_INT32 = Struct(">i")

_SKIP, _ERROR, _STRING, _BYTES, _FIXED, _STRINGS, _ARRAY, _TAGS, _STOP = range(9)
_SIMPLE = {"error": _ERROR, "string": _STRING, "bytes": _BYTES, "string*": _STRINGS, "stop": _STOP}
_OPENING = frozenset("[(")
_CLOSING = frozenset("])")


class _Step:
    """Skip `skip` bytes; then what `kind` says. `size`: of a fixed array's entries; `steps`: for those of an array."""

    __slots__ = ("kind", "size", "skip", "steps")

    def __init__(self, kind: int, skip: int, size: int = 0, steps: tuple[_Step, ...] = ()) -> None:
        self.kind = kind
        self.skip = skip
        self.size = size
        self.steps = steps


class _Found(Exception):
    """Nothing that comes later says more."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def error_code(key: int, version: int, reply: bytes) -> int:
    """The most telling error code of an answer: that of the whole, else the first of a topic, partition or the like.

    `reply`: the body, or as much of its beginning as there is; what lies beyond is taken to be no error.
    """
    quick = _QUICK.get(key)
    if quick is not None:
        try:
            code = quick(version, reply)
        except (IndexError, error, ParseError):
            return 0  # the reply ends here, or makes no sense from here on
        if code is not None:
            return code
    return _walked(key, version, reply)


def _walked(key: int, version: int, reply: bytes) -> int:
    """The same by the layouts alone."""
    plan = _plan(key, version)
    if plan is None:
        return 0
    steps, compact, is_last = plan
    walk = _Walk(reply, compact, is_last)
    try:
        walk.run(steps, 0)
    except _Found as found:
        return found.code
    except (IndexError, error, ParseError):
        pass
    return walk.first


class _Walk:
    """`is_last`: the error of the whole comes behind those of the parts. `first`: of a part."""

    __slots__ = ("_compact", "_data", "_is_last", "_position", "first")

    def __init__(self, data: bytes, compact: bool, is_last: bool) -> None:
        self.first = 0
        self._data = data
        self._position = 0
        self._compact = compact
        self._is_last = is_last

    def run(self, steps: tuple[_Step, ...], depth: int) -> None:
        data = self._data
        for step in steps:
            self._position += step.skip
            kind = step.kind
            if kind == _ERROR:
                (code,) = _INT16.unpack_from(data, self._position)
                self._position += 2
                if code and not (depth and self.first):
                    if not depth or not self._is_last:
                        raise _Found(code)
                    self.first = code
            elif kind == _TAGS:
                if data[self._position]:
                    self._skip_tags()
                else:
                    self._position += 1
            elif kind == _ARRAY:
                for _ in range(self._length()):
                    self.run(step.steps, depth + 1)
            elif kind == _STRING:
                self._skip(self._length(small=True))
            elif kind == _BYTES:
                self._skip(self._length())
            elif kind == _FIXED:
                self._skip(self._length() * step.size)
            elif kind == _STRINGS:
                for _ in range(self._length()):
                    self._skip(self._length(small=True))
            elif kind == _STOP:
                raise _Found(self.first)

    def _skip(self, count: int) -> None:
        self._position += count

    def _length(self, small: bool = False) -> int:
        size, self._position = _length_at(self._data, self._position, self._compact, small)
        return size

    def _skip_tags(self) -> None:
        count, self._position = _varint_at(self._data, self._position)
        for _ in range(count):
            _, self._position = _varint_at(self._data, self._position)
            size, self._position = _varint_at(self._data, self._position)
            self._skip(size)


def _length_at(data: bytes, position: int, compact: bool, small: bool = False) -> tuple[int, int]:
    """The length there, 0 for null, however little of what it counts is here; and where that begins."""
    if compact:
        size = data[position]
        if size < 0x80:
            position += 1
        else:
            size, position = _varint_at(data, position)
        size -= 1
    elif small:
        (size,) = _INT16.unpack_from(data, position)
        position += 2
    else:
        (size,) = _INT32.unpack_from(data, position)
        position += 4
    if size < 0:
        if size < -1:
            raise ParseError("a length is negative")
        size = 0
    return size, position


def _varint_at(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ParseError("a varint is longer than five bytes")


@lru_cache(maxsize=1024)
def _plan(key: int, version: int) -> tuple[tuple[_Step, ...], bool, bool] | None:
    """How to walk an answer; are its lengths compact; is the error of the whole behind those of the parts."""
    layout = _LAYOUTS.get(key)
    if layout is None:
        return None
    flexible, fields = layout
    compact = version >= flexible
    steps = tuple(_steps(iter(fields.split()), version, compact))
    kinds = [step.kind for step in steps]
    is_last = _ERROR in kinds and _ARRAY in kinds[: kinds.index(_ERROR)]
    return steps, compact, is_last


def _steps(fields: Iterator[str], version: int, compact: bool) -> list[_Step]:
    """The steps of one struct, up to the end of its fields. Bytes to skip are left to the step behind them."""
    steps: list[_Step] = []
    skip = 0
    for field in fields:
        name, _, versions = field.partition("@")
        if name in _CLOSING:
            if compact:
                steps.append(_Step(_TAGS, skip))
            elif skip:
                steps.append(_Step(_SKIP, skip))
            break
        inside = _steps(fields, version, compact) if name in _OPENING else []
        if not _applies(versions, version):
            continue
        if name.isdigit():
            skip += int(name)
            continue
        if name == "(":
            inside[0].skip += skip
            steps += inside
        else:
            steps.append(_step(name, skip, inside))
        skip = 0
    return steps


def _step(name: str, skip: int, inside: list[_Step]) -> _Step:
    if name == "[":
        if len(inside) == 1 and inside[0].kind == _SKIP:
            return _Step(_FIXED, skip, inside[0].skip)
        return _Step(_ARRAY, skip, steps=tuple(inside))
    if name in _SIMPLE:
        return _Step(_SIMPLE[name], skip)
    return _Step(_FIXED, skip, int(name.removesuffix("*")))


def _applies(versions: str, version: int) -> bool:
    """Is `version` in "3+", "0-7" or "5"? All are in ""."""
    if not versions:
        return True
    if versions.endswith("+"):
        return version >= int(versions[:-1])
    first, _, last = versions.partition("-")
    return int(first) <= version <= int(last or first)


# -- Produce and Fetch, which are most of what passes: the same in fewer steps, None for all that is out of the ordinary


def _of_produce(version: int, data: bytes) -> int | None:
    compact = version >= 9
    fixed = 30 if version >= 5 else 22  # index, error, offsets, time
    # No errors of single records, no message, no tags.
    usual = b"\1\0\0" if compact else b"\0\0\0\0\xff\xff" if version >= 8 else b""
    topics, position = _length_at(data, 0, compact)
    for _ in range(topics):
        if version >= 13:
            position += 16
        else:
            size, position = _length_at(data, position, compact, small=True)
            position += size
        partitions, position = _length_at(data, position, compact)
        for _ in range(partitions):
            (code,) = _INT16.unpack_from(data, position + 4)
            if code:
                return int(code)
            position += fixed
            if usual:
                behind = position + len(usual)
                if data[position:behind] != usual:
                    return None if behind <= len(data) else 0
                position = behind
        if compact:
            if data[position]:
                return None
            position += 1
    return 0


def _of_fetch(version: int, data: bytes) -> int | None:
    compact = version >= 12
    if version >= 7:
        (code,) = _INT16.unpack_from(data, 4)
        if code:
            return int(code)
    fixed = 30 if version >= 5 else 22  # index, error, offsets
    replica = 4 if version >= 11 else 0
    topics, position = _length_at(data, 10 if version >= 7 else 4, compact)
    for _ in range(topics):
        if version >= 13:
            position += 16
        else:
            size, position = _length_at(data, position, compact, small=True)
            position += size
        partitions, position = _length_at(data, position, compact)
        for _ in range(partitions):
            (code,) = _INT16.unpack_from(data, position + 4)
            if code:
                return int(code)
            aborted, position = _length_at(data, position + fixed, compact)
            if aborted:
                return None
            size, position = _length_at(data, position + replica, compact)
            position += size
            if compact:
                if data[position]:
                    return None
                position += 1
        if compact:
            if data[position]:
                return None
            position += 1
    return 0


_QUICK: dict[int, Callable[[int, bytes], int | None]] = {0: _of_produce, 1: _of_fetch}
