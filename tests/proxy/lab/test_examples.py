"""The examples that ship: every file reads, and every probe runs between pods that exist."""

from __future__ import annotations

import re

import pytest
import yaml

from proxy.lab.demo import SCENARIOS, examples, load_scenarios
from proxy.lab.errors import LabError
from proxy.lab.manifests import read_manifests
from proxy.lab.plan import DEFAULT_HOSTS, make_plan


def test_every_folder_is_a_scenario() -> None:
    assert sorted(path.name for path in examples().iterdir() if path.is_dir()) == sorted(SCENARIOS)


def test_all_examples_fit_into_one_lab() -> None:
    manifests = read_manifests([examples() / name / "workloads.yaml" for name in SCENARIOS])
    assert manifests.notes == ()
    assert len(make_plan("demo", manifests).pods) == len(manifests.pods) + 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_probes_name_pods_and_hosts_that_exist(name: str) -> None:
    manifests = read_manifests([examples() / name / "workloads.yaml"])
    places = {pod.ref for pod in manifests.pods} | {"world", "node"} | {f"world/{host.name}" for host in DEFAULT_HOSTS}
    probes = load_scenarios([name])[0].probes.probes
    for probe in probes:
        assert {probe.source, *re.findall(r"\{([^}]+)\}", probe.target)} <= places, probe.where
    outcomes = {probe.expect for probe in probes}
    assert outcomes & {"200", "connected", "kafka 0"}
    assert outcomes & {"403", "timeout", "kafka 29"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_policies_stay_in_the_examples_own_namespaces(name: str) -> None:
    """All examples share the demo's lab: none may reach into another's pods."""
    own = {pod.namespace for pod in read_manifests([examples() / name / "workloads.yaml"]).pods}
    for policy in yaml.safe_load_all((examples() / name / "policies.yaml").read_text(encoding="utf-8")):
        if policy["kind"] == "CiliumClusterwideNetworkPolicy":
            selected = policy["spec"]["endpointSelector"]["matchLabels"]
            assert selected["k8s:io.kubernetes.pod.namespace"] in own
        else:
            assert policy["metadata"]["namespace"] in own


def test_an_unknown_scenario() -> None:
    with pytest.raises(LabError, match="there is no scenario 'x'"):
        load_scenarios(["x"])
