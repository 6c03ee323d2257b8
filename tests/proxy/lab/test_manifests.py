"""Kubernetes manifests as the lab reads them: what is taken over, and what is refused with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.lab.errors import LabError
from proxy.lab.manifests import read_manifests
from proxy.lab.model import Manifests, PodPort

Read = Callable[[str], Manifests]

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend, namespace: web}
spec:
  replicas: 2
  template:
    metadata:
      labels: {app: frontend}
      annotations:
        lab.penstock.io/run: exec server
        lab.penstock.io/run.sidecar: exec helper
    spec:
      serviceAccountName: front
      containers:
      - ports:
        - {name: http, containerPort: 80}
        - {containerPort: 53, protocol: UDP}
      - {name: portless}
"""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def body(text: str) -> Manifests:
        file = tmp_path / "manifests.yaml"
        file.write_text(text, encoding="utf-8")
        return read_manifests([file])

    return body


def test_a_deployment_becomes_numbered_pods(read: Read) -> None:
    manifests = read(DEPLOYMENT)
    assert [pod.ref for pod in manifests.pods] == ["web/frontend-0", "web/frontend-1"]
    pod = manifests.pods[1]
    assert pod.labels == {"app": "frontend"}
    assert pod.ports == (PodPort(80, "http"), PodPort(53, protocol="UDP"))
    assert dict(pod.runs) == {"run": "exec server", "sidecar": "exec helper"}
    assert pod.service_account == "front"


@pytest.mark.parametrize(("kind", "count"), [("StatefulSet", 2), ("ReplicaSet", 2), ("DaemonSet", 1)])
def test_other_workloads(read: Read, kind: str, count: int) -> None:
    assert len(read(DEPLOYMENT.replace("Deployment", kind)).pods) == count


def test_replicas_default_to_one_and_may_be_none(read: Read) -> None:
    assert len(read(DEPLOYMENT.replace("  replicas: 2\n", "")).pods) == 1
    assert read(DEPLOYMENT.replace("replicas: 2", "replicas: 0")).pods == ()


def test_namespaces_have_labels_and_need_not_be_declared(read: Read) -> None:
    text = "kind: Namespace\nmetadata: {name: a, labels: {team: x}}\n---\nkind: Pod\nmetadata: {name: p}\n"
    assert read(text).namespaces == {"a": {"team": "x"}, "default": {}}


def test_lists_are_opened(read: Read) -> None:
    text = "kind: List\nitems:\n- kind: Pod\n  metadata: {name: p}\n- kind: Pod\n  metadata: {name: [q]}\n"
    with pytest.raises(LabError, match=r"manifests\.yaml:6:20: metadata\.name cannot be \['q'\]"):
        read(text)
    assert [pod.ref for pod in read(text.replace("[q]", "q")).pods] == ["default/p", "default/q"]


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Pod\nmetadata: {name: a}\n", encoding="utf-8")
    (tmp_path / "b.yml").write_text("kind: Pod\nmetadata: {name: b}\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text("not: read", encoding="utf-8")
    assert [pod.name for pod in read_manifests([tmp_path]).pods] == ["a", "b"]


def test_other_kinds_are_noted(read: Read) -> None:
    notes = read("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n").notes
    assert len(notes) == 1
    assert "manifests.yaml:1:1: ConfigMap" in notes[0]


SERVICE = (
    DEPLOYMENT + "---\nkind: Service\nmetadata: {name: front, namespace: web}\nspec:\n  selector: {app: frontend}\n"
)


def test_a_service_selects_pods_of_its_namespace(read: Read) -> None:
    other = DEPLOYMENT.replace("namespace: web", "namespace: other")
    manifests = read(SERVICE + "---\n" + other)
    service = manifests.services[0]
    assert [pod.ref for pod in manifests.pods if service.selects(pod)] == ["web/frontend-0", "web/frontend-1"]


@pytest.mark.parametrize("port", ["{port: 80}", "{port: 80, targetPort: 80}", "{port: 80, targetPort: http}"])
def test_service_ports_the_pods_listen_on(read: Read, port: str) -> None:
    assert read(f"{SERVICE}  ports: [{port}]\n").services[0].ports[0].port == 80


@pytest.mark.parametrize(
    "port", ["{port: 8080, targetPort: 80}", "{port: 81, targetPort: http}", "{port: 80, targetPort: x}"]
)
def test_address_translation_is_refused(read: Read, port: str) -> None:
    with pytest.raises(LabError, match="does not translate addresses") as caught:
        read(f"{SERVICE}  ports: [{port}]\n")
    assert "manifests.yaml:" in caught.value.message
    assert caught.value.hint


def test_a_service_without_pods_is_noted(read: Read) -> None:
    notes = read(
        "kind: Service\nmetadata: {name: s}\nspec: {selector: {app: none}, ports: [{port: 1, targetPort: 2}]}\n"
    ).notes
    assert "selects no pod" in notes[0]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("- 1\n", ":1:1", "expected a manifest"),
        ("metadata: {}\n", ":1:1", "kind is missing"),
        ("kind: Pod\nmetadata: {}\n", ":2:11", "metadata.name is missing"),
        ("kind: Pod\nmetadata: {name: Upper}\n", ":2:18", "not a DNS name"),
        ("kind: Pod\nmetadata:\n  name: p\n  labels:\n    a: 1\n", ":5:8", "is not text"),
        (
            "kind: Pod\nmetadata:\n  name: p\n  annotations:\n    lab.penstock.io/rum: x\n",
            ":5:26",
            "unknown annotation",
        ),
        ("kind: Pod\nmetadata: {name: p}\nspec: {hostNetwork: true}\n", ":3:21", "hostNetwork"),
        ("kind: Deployment\nmetadata: {name: p}\nspec: {replicas: many}\n", ":3:18", "cannot be 'many'"),
        ("kind: Deployment\nmetadata: {name: p}\nspec: {replicas: true, template: {}}\n", ":3:18", "cannot be True"),
        ("kind: Deployment\nmetadata: {name: p}\nspec: {replicas: 9999}\n", ":3:18", "replicas must be"),
        ("kind: Pod\nmetadata: {name: p\n", ":3:1", ""),
        ("kind: Service\nmetadata: {name: s}\nspec: {type: ExternalName}\n", ":3:14", "ExternalName"),
    ],
)
def test_errors_name_their_place(read: Read, text: str, place: str, message: str) -> None:
    with pytest.raises(LabError) as caught:
        read(text)
    assert f"manifests.yaml{place}: " in caught.value.message
    assert message in caught.value.message


def test_the_same_pod_twice(read: Read) -> None:
    with pytest.raises(LabError, match=r"web/frontend-0 is already defined at .*manifests\.yaml:1:1"):
        read(DEPLOYMENT + "---\n" + DEPLOYMENT)


def test_the_world_has_hosts(read: Read) -> None:
    text = "apiVersion: lab.penstock.io/v1\nkind: World\nspec:\n  hosts:\n  - {name: a.test, addresses: [192.0.2.1]}\n"
    assert read(text).hosts[0].addresses == ("192.0.2.1",)
    with pytest.raises(LabError, match=r":5:5: spec\.hosts\.0\.addresses is missing"):
        read(text.replace(", addresses: [192.0.2.1]", ""))
