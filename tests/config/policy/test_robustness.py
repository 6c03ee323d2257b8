"""Whatever a policy file holds, the loader answers with documents and findings, and never raises."""

from __future__ import annotations

import json
from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st

from config.policy.load import LoadedFile, parse_file
from config.policy.resolve import resolve
from config.settings import Settings
from tests.config.policy.builders import endpoints

PODS = endpoints()
WHOLE = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "p", "namespace": "default", "labels": {"a": "b"}, "annotations": {"c": "d"}},
    "spec": {
        "description": "d",
        "endpointSelector": {"matchLabels": {"id": "a"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"id": "foo"}, "namespaceSelector": {"matchLabels": {"team": "a"}}}],
                "toPorts": [
                    {
                        "ports": [{"port": "80", "endPort": 90, "protocol": "TCP"}],
                        "rules": {
                            "http": [
                                {
                                    "method": "GET",
                                    "path": "/.*",
                                    "host": "h",
                                    "headers": ["A: b"],
                                    "headerMatches": [{"name": "x", "value": "y"}],
                                }
                            ]
                        },
                    }
                ],
                "authentication": {"mode": "disabled"},
            },
            {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}], "icmps": [{"fields": [{"type": 8}]}]},
        ],
        "ingressDeny": [{"fromEntities": ["world"], "toPorts": [{"ports": [{"port": "http"}]}]}],
        "egress": [{"toCIDR": ["1.1.1.1"]}, {"toEntities": ["cluster"]}],
        "enableDefaultDeny": {"ingress": True},
        "labels": [{"key": "a", "value": "b", "source": "k8s"}],
        "log": {"value": "x"},
    },
}
_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["0", "65536", "::/0", "1.2.3.4/33", "(", "*", "ANY", "all", "In", "k8s:", ":", "GET|", "a" * 300]),
    st.just([]),
    st.just({}),
    st.just([None]),
    st.just([[]]),
    st.just({"a": None}),
)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path] * bool(path) + [found for key, inner in items for found in places(inner, (*path, key))]


PLACES = places(WHOLE)


def put(document: object, path: tuple[str | int, ...], value: object) -> None:
    target = document
    for step in path[:-1]:
        if not isinstance(target, dict | list):
            return
        try:
            target = target[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(target, dict) or (isinstance(target, list) and isinstance(path[-1], int) and path[-1] < len(target)):
        target[path[-1]] = value  # type: ignore[index]


def check(file: LoadedFile) -> None:
    assert file.ok or (not file.documents and file.lockdowns)
    for finding in file.findings:
        assert finding.code
        assert finding.line > 0
    resolve(file.documents, PODS, Settings(), 1)


def test_as_it_stands_it_is_accepted() -> None:
    assert parse_file(json.dumps(WHOLE).encode(), "p.json").ok


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(PLACES), _ODD), min_size=1, max_size=3))
def test_odd_values_anywhere(changes: list[tuple[tuple[str | int, ...], object]]) -> None:
    document = deepcopy(WHOLE)
    for path, value in changes:
        put(document, path, deepcopy(value))
    check(parse_file(json.dumps(document, ensure_ascii=True).replace("\\u0000", "x").encode(), "p.json"))


@settings(max_examples=100)
@given(st.data())
def test_half_a_file(data: st.DataObject) -> None:
    text = json.dumps(WHOLE, indent=1).encode()
    check(parse_file(text[: data.draw(st.integers(1, len(text) - 1))], "p.json"))
