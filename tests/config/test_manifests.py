"""Kubernetes manifests in place of an endpoints file."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from config.endpoints import EndpointsFile
from config.labels import K8S, NAMESPACE_LABELS, POD_NAMESPACE, SERVICE_ACCOUNT
from config.manifests import MAX_REPLICAS, read_endpoints
from config.policy.resolved import ContainerPort, Protocol

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: front, namespace: shop, labels: {app: front}}
spec:
  serviceAccountName: web
  containers:
  - name: c
    ports: [{name: http, containerPort: 80}, {containerPort: 81}, {name: dns, containerPort: 53, protocol: UDP}]
status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
"""


def workload(kind: str, name: str = "cart", replicas: str = "") -> str:
    template = "{metadata: {labels: {app: cart}}, spec: {containers: [{ports: [{name: http, containerPort: 8080}]}]}}"
    spec = f"{{{replicas}template: {template}}}"
    if kind == "CronJob":
        spec = f"{{jobTemplate: {{spec: {spec}}}}}"
    return f"kind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def read(tmp_path: Path, *documents: str) -> EndpointsFile:
    path = tmp_path / "manifests.yaml"
    path.write_text("\n---\n".join(documents))
    return read_endpoints([path])


def names(file: EndpointsFile) -> list[str]:
    return [f"{item.namespace}/{item.name}" for item in file.endpoints]


def test_pods(tmp_path: Path) -> None:
    file = read(tmp_path, POD, NAMESPACE)
    assert file.ok, file.findings
    [pod] = file.endpoints
    assert {f"{K8S}:app=front", f"{K8S}:{POD_NAMESPACE}=shop", f"{K8S}:{SERVICE_ACCOUNT}=web"} <= pod.labels
    assert f"{K8S}:{NAMESPACE_LABELS}team=a" in pod.labels
    assert pod.addresses == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert pod.ports == (ContainerPort("http", 80), ContainerPort("dns", 53, Protocol.UDP))
    assert file.namespaces == {"shop": {"team": "a"}}


@pytest.mark.parametrize(
    "kind",
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"],
)
def test_workloads_make_pods(tmp_path: Path, kind: str) -> None:
    file = read(tmp_path, workload(kind))
    assert file.ok, file.findings
    [pod] = file.endpoints
    assert (pod.namespace, pod.name, pod.addresses) == ("default", "cart-0", ())
    assert {f"{K8S}:app=cart", f"{K8S}:{SERVICE_ACCOUNT}=default"} <= pod.labels
    assert pod.ports == (ContainerPort("http", 8080),)


@pytest.mark.parametrize(("replicas", "count"), [(0, 1), (1, 1), (3, 3), (10**6, MAX_REPLICAS)])
def test_replicas(tmp_path: Path, replicas: int, count: int) -> None:
    assert len(read(tmp_path, workload("Deployment", replicas=f"replicas: {replicas}, ")).endpoints) == count


def test_lists_and_other_kinds(tmp_path: Path) -> None:
    items = [workload("Deployment", name).replace("\n", "\n  ").strip() for name in ("one", "two")]
    listed = "kind: List\nitems:\n" + "\n".join(f"- {item}" for item in items)
    file = read(tmp_path, listed, "kind: ConfigMap\nmetadata: {name: x}\ndata: []\n", "kind: Widget\n", "")
    assert file.ok, file.findings
    assert names(file) == ["default/one-0", "default/two-0"]


def test_pods_of_the_hosts_network_are_none_of_ours(tmp_path: Path) -> None:
    assert read(tmp_path, POD.replace("spec:\n", "spec:\n  hostNetwork: true\n")).endpoints == ()


def test_names_that_kubernetes_makes_up(tmp_path: Path) -> None:
    assert names(read(tmp_path, POD.replace("name: front", "generateName: front-", 1))) == ["shop/front"]


def test_files_of_both_kinds_mix(tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text(f"{POD}\n---\n{NAMESPACE}")
    (tmp_path / "endpoints.yaml").write_text(
        "cluster: west\n"
        "namespaces: [{name: shop, labels: {tier: gold}}]\n"
        "endpoints: [{name: db, namespace: shop, labels: {app: db}, addresses: [10.0.0.2]}]\n"
        "kubeApiServer: [10.0.0.9]\n"
    )
    for paths in ([tmp_path], [tmp_path / "pods.yaml", tmp_path / "endpoints.yaml"]):
        file = read_endpoints(paths)
        assert file.ok, file.findings
        assert names(file) == ["shop/db", "shop/front"]
        assert file.cluster == "west"
        assert file.api_servers == (ip_address("10.0.0.9"),)
        for pod in file.endpoints:
            assert {f"{K8S}:{NAMESPACE_LABELS}team=a", f"{K8S}:{NAMESPACE_LABELS}tier=gold"} <= pod.labels
        assert len({pod.id for pod in file.endpoints}) == 2


@pytest.mark.parametrize(
    ("document", "code", "line"),
    [
        (POD.replace("app: front", "app: 1"), "EPF001", 4),
        (POD.replace("app: front", '"k8s:app": front'), "EPF001", 4),
        (POD.replace("{app: front}", "[app]"), "EPF001", 4),
        (POD.replace("containerPort: 81", "containerPort: 0"), "EPF001", 9),
        (POD.replace("protocol: UDP", "protocol: GRE"), "EPF001", 9),
        (POD.replace("podIP: 10.0.0.1", "podIP: x"), "EPF001", 10),
        (POD.replace("name: front, ", ""), "EPF001", 4),
        (POD.replace("{name: front, namespace: shop, labels: {app: front}}", "[]"), "EPF001", 4),
        (f"{POD}\n---\n{POD}", "EPF002", 14),
        ("kind: Pod\nmetadata: {name: x}\nspec: {containers: {}}\n", "EPF001", 3),
        ("kind: Pod\nkind: Pod\n", "YML005", 2),
        ("endpoints: [{name: a, addresses: [x]}]", "EPF003", 1),
        ("endpoint: []", "EPF001", 1),
    ],
)
def test_what_is_wrong_is_found_fault_with(tmp_path: Path, document: str, code: str, line: int) -> None:
    file = read(tmp_path, document)
    assert file.endpoints == ()
    assert (file.findings[0].code, file.findings[0].line) == (code, line)
    assert file.findings[0].file.endswith("manifests.yaml")


@pytest.mark.parametrize(
    "document", ["- a\n- b\n", "text\n", "kind: 7\n", "kind: [Pod]\n", "kind: List\nitems: 7\n", "kind: PodList\n", ""]
)
def test_what_is_no_manifest_is_passed_over(tmp_path: Path, document: str) -> None:
    assert read(tmp_path, document) == EndpointsFile()


def test_what_is_not_there(tmp_path: Path) -> None:
    assert [finding.code for finding in read_endpoints([tmp_path / "none"]).findings] == ["YML010"]
