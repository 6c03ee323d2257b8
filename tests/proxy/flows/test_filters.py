"""Flow filters: each field, the algebra of flags, and refusals."""

from __future__ import annotations

import re

import pytest

from proxy.flows.filters import FilterError, FlowFilter
from proxy.flows.flags import FLAGS, FilterBuilder
from proxy.flows.labels import selector
from tests.proxy.flows.samples import golden_node

# Of the golden flows: 0 request, 1 response, 2 refused request, 3 its 403, 4 policy verdict to the world.
FLOWS = golden_node().flows()


def matching(*flags: tuple[str, str]) -> list[int]:
    builder = FilterBuilder()
    for name, value in flags:
        builder.add(name.removeprefix("!"), value, negate=name.startswith("!"))
    filters = builder.build()
    found = [index for index, flow in enumerate(FLOWS) if filters.matches(flow)]
    assert all(filters.may_match(FLOWS[index].verdict, FLOWS[index].event_type) for index in found)
    return found


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], [0, 1, 2, 3, 4]),
        ([("verdict", "DROPPED")], [2, 4]),
        ([("verdict", "DROPPED"), ("verdict", "FORWARDED")], [0, 1, 2, 3, 4]),
        ([("verdict", "DROPPED"), ("type", "l7")], [2]),
        ([("type", "policy-verdict")], [4]),
        ([("type", "129")], [0, 1, 2, 3]),
        ([("protocol", "http")], [0, 1, 2, 3]),
        ([("protocol", "tcp")], [0, 1, 2, 3, 4]),
        ([("protocol", "udp")], []),
        ([("from-pod", "web")], [0, 2, 4]),
        ([("to-pod", "default/we")], [1, 3]),
        ([("pod", "other/web")], []),
        ([("pod", "/api")], [0, 1, 2, 3]),
        ([("namespace", "default")], [0, 1, 2, 3, 4]),
        ([("to-namespace", "default")], [0, 1, 2, 3]),
        ([("from-label", "app=api")], [1, 3]),
        ([("label", "reserved:world")], [4]),
        ([("to-label", "app in (api, db),k8s:app")], [0, 2]),
        ([("to-label", "!app")], [4]),
        ([("ip", "192.0.2.0/24")], [4]),
        ([("from-ip", "10.0.0.2")], [1, 3]),
        ([("port", "8080")], [0, 1, 2, 3]),
        ([("to-port", "443"), ("to-port", "41000")], [1, 4]),
        ([("pod", "web"), ("port", "8080")], []),
        ([("pod", "api"), ("port", "8080")], [0, 1, 2, 3]),
        ([("identity", "world")], [4]),
        ([("from-identity", "3002")], [1, 3]),
        ([("http-method", "delete")], [2, 3]),
        ([("http-path", "^/v1/")], [0, 1, 2, 3]),
        ([("http-path", "api")], []),
        ([("http-url", "api:8080")], [0, 1, 2, 3]),
        ([("http-status", "403")], [3]),
        ([("http-status", "2+"), ("http-status", "40+")], [1, 3]),
        ([("dns-query", "")], []),
        ([("fqdn", "*")], []),
        ([("drop-reason-desc", "POLICY_DENY")], [4]),
        ([("drop-reason-desc", "POLICY_DENIED")], [2]),
        ([("traffic-direction", "egress")], [4]),
        ([("uuid", FLOWS[3].uuid)], [3]),
        ([("!verdict", "DROPPED")], [0, 1, 3]),
        ([("verdict", "DROPPED"), ("!to-port", "443")], [2]),
        ([("!verdict", "DROPPED"), ("!http-method", "DELETE")], [0, 1, 3, 4]),  # not (dropped and DELETE)
    ],
)
def test_flags(flags: list[tuple[str, str]], expected: list[int]) -> None:
    assert matching(*flags) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([("verdict", "dropped")], "unknown verdict 'dropped': expected one of FORWARDED"),
        ([("type", "l8")], "unknown event type 'l8'"),
        ([("protocol", "quic")], "unknown protocol 'quic'"),
        ([("port", "http")], "port 'http' is no number"),
        ([("port", "70000")], "out of range"),
        ([("ip", "10.0.0.300")], "not an address or CIDR"),
        ([("identity", "everyone")], "unknown identity 'everyone'"),
        ([("http-status", "600")], "expected a code such as 404"),
        ([("http-path", "(")], "not a regular expression"),
        ([("dns-query", "(")], "not a regular expression"),
        ([("fqdn", "")], "not a name: ''; expected for example api.example.com"),
        ([("to-fqdn", ".")], "not a name: '.'"),
        ([("fqdn", "a|b")], "not a name: 'a|b'"),
        ([("label", "a=b=c")], "not a label selector"),
        ([("drop-reason-desc", "BAD")], "unknown drop reason 'BAD'"),
        ([("traffic-direction", "up")], "unknown traffic direction"),
        ([("pods", "a")], "did you mean 'pod'"),
        ([("pod", "a"), ("namespace", "b")], "filters --pod and --namespace cannot be combined"),
        ([("label", "a"), ("from-label", "b")], "filters --label and --from-label cannot be combined"),
        ([("fqdn", "a"), ("to-fqdn", "b")], "filters --fqdn and --to-fqdn cannot be combined"),
        ([("type", "drop"), ("http-method", "GET")], "needs event type l7"),
        ([("type", "drop"), ("dns-query", "a")], "filter on dns query needs event type l7"),
    ],
)
def test_refusals_say_why(flags: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(FilterError, match=re.escape(message)):
        matching(*flags)


def test_every_flag_is_tried_above() -> None:
    tried = {name.removeprefix("!") for mark in test_flags.pytestmark for flags, _ in mark.args[1] for name, _ in flags}  # type: ignore[attr-defined]
    siblings = {name for name in FLAGS if name.startswith(("from-", "to-"))}
    assert set(FLAGS) - siblings <= tried


def test_either_flags_make_two_filters_of_json() -> None:
    builder = FilterBuilder()
    builder.add("pod", "default/web")
    builder.add("port", "80")
    assert [item.text() for item in builder.build().allow] == [
        '{"source_pod":["default/web"],"source_port":["80"]}',
        '{"destination_pod":["default/web"],"destination_port":["80"]}',
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"pod":["a"]}', "unknown filter field 'pod'"),
        ('{"verdict":"DROPPED"}', "expected a list"),
        ('{"verdict":[]}', "at least one value"),
        ('{"verdict":[1]}', "must be of type str"),
        ('{"event_type":[{"sub_type":1}]}', "event_type"),
    ],
)
def test_json_filters_are_checked(spec: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        FlowFilter.parse(spec)


def test_json_filters() -> None:
    spec = '{"event_type":[{"type":129}],"reply":[true],"http_status_code":["4+"]}'
    assert [i for i, flow in enumerate(FLOWS) if FlowFilter.parse(spec).matches(flow)] == [3]


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("app=web", ["k8s:app=web"], True),
        ("app==web,tier!=db", ["k8s:app=web"], True),
        ("app==web,tier!=db", ["k8s:app=web", "k8s:tier=db"], False),
        ("k8s:app=web", ["container:app=web"], False),
        ("any:app=web", ["container:app=web"], True),
        ("env notin (a,b)", ["k8s:env=c"], True),
        ("env notin (a,b)", ["k8s:env=a"], False),
        ("env notin (a,b)", [], True),
        ("reserved:world", ["reserved:world-ipv4"], False),
        ("!canary", ["k8s:canary="], False),
        ("io.kubernetes.pod.namespace=a", ["k8s:io.kubernetes.pod.namespace=a"], True),
    ],
)
def test_selectors(text: str, labels: list[str], expected: bool) -> None:
    assert selector(text)(labels) is expected
