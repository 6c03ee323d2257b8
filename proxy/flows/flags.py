"""Hubble's filter flags → flow filters: one place for the CLI, the API's query parameters and later the UI.

The same flag repeated is OR, different flags are AND. "Either" flags (`--pod`, `--ip`, …) make two filters, one for
each side, which are ORed as wholes: `--pod a --port 80` means (from a, source port 80) or (to a, destination port 80).
`--not` moves the next flag to the deny-filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final

from proxy.flows.filters import FilterError, FlowFilter, FlowFilters
from proxy.flows.model import EventType
from proxy.flows.reasons import RESERVED_IDENTITIES, identity_number


class Side(Enum):
    SOURCE = "source"
    DESTINATION = "destination"
    EITHER = "either"
    FLOW = "flow"


_TYPES: Final = {
    "capture": EventType.CAPTURE,
    "drop": EventType.DROP,
    "l7": EventType.L7,
    "policy-verdict": EventType.POLICY_VERDICT,
    "trace": EventType.TRACE,
    "trace-sock": EventType.TRACE_SOCK,
}


def _same(value: str) -> Any:
    return value


def _namespace(value: str) -> Any:
    return f"{value}/"


def _identity(value: str) -> Any:
    number = identity_number(value)
    if number is None:
        names = ", ".join(RESERVED_IDENTITIES.values())
        raise FilterError(f"unknown identity {value!r}: expected a number or one of {names}")
    return number


def _type(value: str) -> Any:
    name, colon, sub_type = value.partition(":")
    kind = _TYPES.get(name.lower())
    if kind is None and not name.isdecimal():
        raise FilterError(f"unknown event type {name!r}: expected one of {', '.join(_TYPES)}")
    if not colon:
        return {"type": int(name) if kind is None else int(kind)}
    if not sub_type.isdecimal():
        raise FilterError(f"unknown event subtype {sub_type!r}: expected a number")
    return {"type": int(name) if kind is None else int(kind), "match_sub_type": True, "sub_type": int(sub_type)}


@dataclass(frozen=True, slots=True)
class Flag:
    """`field` is the filter's JSON key, without its side for flags that have one. Flags of a `group` and different
    names cannot be combined."""

    name: str
    side: Side
    field: str
    metavar: str
    help: str
    convert: Callable[[str], Any] = _same
    group: str = ""
    short: str = ""


def _sided(name: str, field: str, metavar: str, help_text: str, short: str = "", **more: Any) -> list[Flag]:
    either = Flag(name, Side.EITHER, field, metavar, help_text, short=short, **more)
    source = Flag(f"from-{name}", Side.SOURCE, field, metavar, f"{help_text} (as the source)", **more)
    return [
        either,
        source,
        Flag(f"to-{name}", Side.DESTINATION, field, metavar, f"{help_text} (as destination)", **more),
    ]


_FLAGS: Final = (
    Flag("verdict", Side.FLOW, "verdict", "VERDICT", "FORWARDED, DROPPED, AUDIT, REDIRECTED, ERROR, …"),
    Flag("type", Side.FLOW, "event_type", "TYPE", "drop, l7, policy-verdict, trace, … or a number", _type, short="t"),
    Flag("protocol", Side.FLOW, "protocol", "PROTOCOL", "tcp, udp, icmp, sctp, http, dns, kafka"),
    *_sided("pod", "pod", "[NS/]NAME", "Pods whose name begins so; namespace default unless given", group="pod"),
    *_sided("namespace", "pod", "NS", "Pods of a namespace", short="n", convert=_namespace, group="pod"),
    *_sided("label", "label", "SELECTOR", "Labels, as in app=web,env!=dev or reserved:world", short="l", group="label"),
    *_sided("ip", "ip", "ADDRESS", "Address or CIDR", group="ip"),
    *_sided("fqdn", "fqdn", "NAME", "DNS name of the address; * stands for any characters", group="fqdn"),
    *_sided("port", "port", "PORT", "Port", group="port"),
    *_sided("identity", "identity", "ID", "Identity: a number or reserved name", convert=_identity, group="identity"),
    Flag("http-method", Side.FLOW, "http_method", "METHOD", "HTTP method, any case"),
    Flag("http-path", Side.FLOW, "http_path", "REGEX", "HTTP path, RE2, not anchored"),
    Flag("http-url", Side.FLOW, "http_url", "REGEX", "HTTP URL, RE2, not anchored"),
    Flag("http-status", Side.FLOW, "http_status_code", "STATUS", "HTTP status: 404, or a prefix such as 4+ or 50+"),
    Flag("dns-query", Side.FLOW, "dns_query", "REGEX", "Name that is asked for, with its final dot, RE2, not anchored"),
    Flag("drop-reason-desc", Side.FLOW, "drop_reason_desc", "REASON", "Drop reason, as in POLICY_DENIED"),
    Flag("traffic-direction", Side.FLOW, "traffic_direction", "DIRECTION", "ingress or egress"),
    Flag("uuid", Side.FLOW, "uuid", "UUID", "The flow with this uuid"),
)
FLAGS: Final[Mapping[str, Flag]] = {flag.name: flag for flag in _FLAGS}


class FilterBuilder:
    """Collects flags in the order in which they were given."""

    def __init__(self) -> None:
        self._sides = {False: _Pair(), True: _Pair()}
        self._raw: dict[bool, list[FlowFilter]] = {False: [], True: []}

    def add(self, name: str, value: str, *, negate: bool = False) -> None:
        """One flag by its long name without dashes before it. FilterError says what is wrong with it."""
        flag = FLAGS.get(name)
        if flag is None:
            close = get_close_matches(name, FLAGS, 1)
            raise FilterError(f"unknown filter {name!r}" + (f": did you mean {close[0]!r}?" if close else ""))
        self._sides[negate].add(flag, value)

    def add_raw(self, spec: str, *, deny: bool) -> None:
        """A FlowFilter in JSON (`--allowlist`, `--denylist`)."""
        self._raw[deny].append(FlowFilter.parse(spec))

    def build(self) -> FlowFilters:
        allow = [*self._sides[False].filters(), *self._raw[False]]
        deny = [*self._sides[True].filters(), *self._raw[True]]
        return FlowFilters(tuple(allow), tuple(deny))


class _Pair:
    """A filter with its mirror image: the same conditions on the other side of a flow."""

    def __init__(self) -> None:
        self._left: dict[str, list[Any]] = {}
        self._right: dict[str, list[Any]] = {}
        self._used: dict[str, str] = {}

    def add(self, flag: Flag, value: str) -> None:
        self._refuse_conflict(flag)
        item = flag.convert(value)
        match flag.side:
            case Side.FLOW:
                self._put(flag.field, item, flag.field, item)
            case Side.EITHER:
                self._put(f"source_{flag.field}", item, f"destination_{flag.field}", item)
            case Side.SOURCE | Side.DESTINATION:
                key = f"{flag.side.value}_{flag.field}"
                self._put(key, item, key, item)

    def filters(self) -> list[FlowFilter]:
        if not self._left:
            return []
        self._refuse_requests_with_other_types()
        if self._left == self._right:
            return [FlowFilter.parse(self._left)]
        return [FlowFilter.parse(self._left), FlowFilter.parse(self._right)]

    def _put(self, left: str, left_item: Any, right: str, right_item: Any) -> None:
        self._left.setdefault(left, []).append(left_item)
        self._right.setdefault(right, []).append(right_item)

    def _refuse_conflict(self, flag: Flag) -> None:
        """`--pod` with `--from-pod` or `--namespace` would contradict itself; `--from-pod` with `--to-pod` is fine."""
        for side in _sides_of(flag):
            other = self._used.get(f"{flag.group}/{side}") if flag.group else None
            if other is not None and other != flag.name:
                raise FilterError(f"filters --{other} and --{flag.name} cannot be combined")
        for side in _sides_of(flag):
            self._used[f"{flag.group}/{side}"] = flag.name

    def _refuse_requests_with_other_types(self) -> None:
        types = self._left.get("event_type", [])
        field = next((key for key in self._left if key.startswith(("http_", "dns_"))), None)
        if field and types and not all(item["type"] == EventType.L7 for item in types):
            raise FilterError(f"filter on {field.replace('_', ' ')} needs event type l7: drop --type or use --type l7")


def _sides_of(flag: Flag) -> tuple[str, ...]:
    return ("source", "destination") if flag.side is Side.EITHER else (flag.side.value,)
