"""What files mean without an agent is what they mean to an agent that starts with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.policy.offline import read_files
from config.settings import Settings
from config.store import PolicyStore
from tests.config.policy.builders import PODS, policy

GOOD = policy("endpointSelector: {matchLabels: {id: a}}\ningress: [{fromEndpoints: [{matchLabels: {id: foo}}]}]")
OTHER = GOOD.replace("name: p", "name: q")
BROKEN = OTHER.replace("fromEndpoints", "fromEndpoint")


@pytest.mark.parametrize(
    ("texts", "is_good"),
    [
        ((GOOD, OTHER), True),
        ((GOOD, BROKEN), False),
        ((f"{GOOD}---\n{BROKEN}",), False),
        ((BROKEN.replace("ingress", "ingressDeny"),), False),
        (("a: [",), False),
        ((GOOD, GOOD.replace("foo", "bar")), False),
        ((), True),
    ],
)
def test_files_mean_what_they_mean_to_the_agent(tmp_path: Path, texts: tuple[str, ...], is_good: bool) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(text)
    (tmp_path / "endpoints.yaml").write_text(PODS)
    settings = Settings(policy_dir=folder, endpoints_file=tmp_path / "endpoints.yaml")
    store = PolicyStore(settings)
    in_force = store.refresh().snapshot
    files = read_files([folder], [tmp_path / "endpoints.yaml"])
    assert files.ok is is_good
    world = files.world(settings)
    assert in_force is not None
    for number, rules in in_force.policies.items():
        assert world.snapshot.policies[number] == rules
    assert {item.key for item in world.documents if item.rules} == {
        item.key for item in store.documents() if item.rules
    }


def test_all_pods_are_of_this_node(tmp_path: Path) -> None:
    (tmp_path / "endpoints.yaml").write_text(PODS)
    snapshot = read_files([], [tmp_path / "endpoints.yaml"]).world(Settings()).snapshot
    assert all(endpoint.is_local for endpoint in snapshot.endpoints.values())
    assert set(snapshot.policies) == set(snapshot.endpoints)


def test_a_folder_that_is_not_there_may_be_about_anybody(tmp_path: Path) -> None:
    files = read_files([tmp_path / "none"], [])
    assert not files.ok
    [document] = files.documents
    assert document.rules[0].default_deny == (True, True)


def test_the_setting_says_what_names_bind() -> None:
    assert read_files([], []).world(Settings()).bind_names == "tls"
    assert read_files([], []).world(Settings(tofqdns_bind_names="all")).bind_names == "all"
