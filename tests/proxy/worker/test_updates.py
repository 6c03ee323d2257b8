"""Snapshots as workers get them: whole, then as changes."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from config.policy.references import References
from config.policy.resolve import Resolver
from config.policy.resolved import Snapshot
from config.settings import Settings
from proxy.worker.updates import apply_change, change_between, for_workers
from tests.config.policy.builders import clusterwide, endpoints, load, policy

ABOUT_A = policy("endpointSelector: {matchLabels: {id: a}}\ningress: [{fromEndpoints: [{}]}]", name="a")
ABOUT_FOO = policy("endpointSelector: {matchLabels: {id: foo}}\negress: [{toCIDR: [10.0.0.0/8]}]", name="foo")
ABOUT_ALL = clusterwide("endpointSelector: {}\ningress: [{fromCIDR: [10.1.0.0/16]}]", name="all")


def snapshots(*states: tuple[str, ...]) -> list[Snapshot]:
    resolver = Resolver(Settings())
    file = endpoints()
    return [
        for_workers(resolver.update(load(*texts).documents if texts else (), file, References(), number))
        for number, texts in enumerate(states, 1)
    ]


def test_changes_lead_to_the_same_snapshot() -> None:
    states = snapshots((), (ABOUT_A, ABOUT_FOO), (ABOUT_A, ABOUT_FOO, ABOUT_ALL), (ABOUT_FOO,), ())
    known = pickle.loads(pickle.dumps(states[0]))
    for before, after in pairwise(states):
        known = apply_change(known, pickle.loads(pickle.dumps(change_between(before, after))))
        assert known == after


def test_a_change_is_as_small_as_what_changed() -> None:
    before, after = snapshots((ABOUT_A, ABOUT_FOO), (ABOUT_A.replace("{}", "{matchLabels: {id: bar}}"), ABOUT_FOO))
    change = change_between(before, after)
    assert {after.endpoints[number].name for number in change.policies} == {"a"}
    assert not change.endpoints


def test_workers_are_not_told_of_the_rest_of_the_cluster() -> None:
    (snapshot,) = snapshots((ABOUT_FOO,))
    assert "far" not in {endpoint.name for endpoint in snapshot.endpoints.values()}
    assert not snapshot.ipcache
    assert not snapshot.identities


def test_a_change_of_another_revision_is_refused() -> None:
    one, two, three = snapshots((), (ABOUT_A,), ())
    with pytest.raises(ValueError, match="revision 2"):
        apply_change(one, change_between(two, three))
