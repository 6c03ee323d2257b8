"""The same clients with the same cases on two sides: a broker with ACLs of its own, and one behind Kafka rules.

A side is a lab: a genuine broker as a pod, and one pod for each identity. In the ACLs an identity is its address, in
the rules it is its labels. `python -m tests.acceptance.kafka.sides` shows the outcomes of the side with ACLs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.lab import Lab
from proxy.lab.sweep import sweep
from tests.acceptance.kafka.broker import LIBS, PORT, java
from tests.lab.support import own_node

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent
MODULES = LIBS.with_name("node_modules")
NODE = Path(sys.executable).with_name("node")
AT_ONCE = 4
"""Clients; most of their time they wait."""
CLIENT_DEADLINE_S = 240

PRODUCING = (
    "produce allowed",
    "produce forbidden",
    "produce one by one",
    "produce together",
    "produce one batch",
    "produce acks 0",
    "produce idempotent",
    "transaction",
    "transaction with offsets",
    "transaction forbidden",
)
CONSUMING = (
    "consume allowed",
    "consume forbidden",
    "consume both",
    "consume assigned",
    "consume assigned forbidden",
    "group protocol allowed",
    "group protocol forbidden",
    "share allowed",
    "share forbidden",
)
STAYING = ("producer stays connected", "consumer stays connected")
ASKING = (
    "list topics",
    "describe allowed",
    "describe forbidden",
    "configs allowed",
    "configs forbidden",
    "offsets allowed",
    "offsets forbidden",
    "describe cluster",
)
CASES: Mapping[str, Sequence[str]] = {
    "both": (*PRODUCING, *CONSUMING, *STAYING, *ASKING, "create topic", "delete topic", "delete allowed"),
    "producer": (
        *PRODUCING,
        *("consume allowed", "consume assigned", "group protocol allowed", "share allowed"),
        *("list topics", "describe allowed", *STAYING),
    ),
    "consumer": (
        *CONSUMING,
        *("produce allowed", "transaction", "list topics", "describe allowed", "offsets allowed", *STAYING),
    ),
    "admin": (*ASKING, "create topic", "delete topic"),
}
"""Identity → what each client tries as that."""

ROLES: Mapping[str, str] = {
    "both": "[{role: produce, topic: t1}, {role: consume, topic: t1}]",
    "producer": "[{role: produce, topic: t1}]",
    "consumer": "[{role: consume, topic: t1}]",
    "admin": "[{}]",
}
"""Identity → its Kafka rules. `JavaClient.acls` has the same in ACLs."""

BROKERS = ("broker", "broker-2")
BROKER_POD = """
---
kind: Pod
apiVersion: v1
metadata:
  name: {name}
  namespace: shop
  labels: {{app: broker}}
  annotations: {{lab.penstock.io/run: cd {root} && exec {python} -m tests.acceptance.kafka.broker {folder} {options}}}
spec: {{containers: [{{ports: [{{containerPort: {port}}}]}}]}}
"""
CLIENT_POD = """
---
kind: Pod
apiVersion: v1
metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}
"""
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: broker, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: broker}}
  ingress:
"""
RULE = """
  - fromEndpoints: [{{matchLabels: {{app: {name}}}}}]
    toPorts: [{{ports: [{{port: "{port}", protocol: TCP}}], rules: {{kafka: {rules}}}}}]
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One case of one client as one identity."""

    client: str
    identity: str
    case: str


Outcomes = dict[Row, str]


class Side:
    """A lab that is up, with its broker prepared."""

    def __init__(self, lab: Lab, classes: Path) -> None:
        self.lab = lab
        self.bootstrap = f"{lab.pod('shop/broker').v4}:{PORT}"
        self._classes = classes

    def clients(self) -> dict[str, list[str]]:
        """Command lines, without their arguments."""
        python = [sys.executable, "-m"]
        package = "tests.acceptance.kafka"
        return {
            "kafka-python": [*python, f"{package}.kafka_python_client"],
            "confluent-kafka": [*python, f"{package}.confluent_client"],
            "aiokafka": [*python, f"{package}.aiokafka_client"],
            "kcat": [*python, f"{package}.kcat_client"],
            "kafkajs": [str(NODE), str(HERE / "kafkajs_client.mjs"), str(MODULES)],
            "platformatic": [str(NODE), str(HERE / "platformatic_client.mjs"), str(MODULES)],
            "java": with_classes(java("JavaClient"), self._classes),
        }

    def prepare(self) -> None:
        """Topics, records and settings, by the broker's own pod."""
        self._as_broker("prepare", "share-java-both", "share-java-consumer")

    def set_acls(self) -> None:
        hosts = {"127.0.0.1": "admin", self.lab.pod("shop/broker").v4: "admin"}
        hosts |= {self.lab.pod(f"shop/{identity}").v4: identity for identity in CASES}
        self._as_broker("acls", *(f"{host}={identity}" for host, identity in hosts.items()))

    def _as_broker(self, *words: str) -> None:
        command = [*self.clients()["java"], self.bootstrap, *words]
        done = self.lab.exec("shop/broker", command, timeout=60)
        assert done.returncode == 0, done.stderr + self.lab.log("shop/broker")

    def run(self, only: Sequence[str] = ()) -> Outcomes:
        """Every client as every identity."""
        jobs = [(client, identity) for identity in CASES for client in self.clients() if not only or client in only]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(lambda job: self.run_client(*job), jobs))
        return {row: outcome for result in results for row, outcome in result.items()}

    def run_client(self, client: str, identity: str, cases: Sequence[str] = ()) -> Outcomes:
        """All its cases, or these, in one process. A case that it does not get to is "timeout"."""
        cases = cases or CASES[identity]
        command = [*self.clients()[client], self.bootstrap, f"{client}-{identity}", *cases]
        try:
            done = self.lab.exec(f"shop/{identity}", command, cwd=ROOT, timeout=CLIENT_DEADLINE_S)
            out, said = done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            out, said = _text(late.stdout), _text(late.stderr)
        told = {}
        for line in out.splitlines():
            if line.startswith('{"case"'):
                answer = json.loads(line)
                told[answer["case"]] = answer["outcome"]
        if len(told) < len(cases):
            print(f"{client} as {identity} said: {said[-2000:]}")
        return {Row(client, identity, case): told.get(case, "timeout") for case in cases}


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""


def compiled(folder: Path) -> Path:
    """The Java programs, compiled."""
    sources = [str(path) for path in sorted(HERE.glob("*.java"))]
    subprocess.run(["javac", "-cp", f"{LIBS}/*", "-d", str(folder), *sources], check=True)
    return folder


def with_classes(command: Sequence[str], classes: Path) -> list[str]:
    """A command line of Java with these classes, too."""
    at = command.index("-cp") + 1
    return [*command[:at], f"{classes}:{command[at]}", *command[at + 1 :]]


def workloads(folder: Path, *options: str) -> str:
    """A broker for each of `options`."""
    pods = ""
    for name, given in zip(BROKERS, options, strict=False):
        values = {"root": ROOT, "python": sys.executable, "folder": folder / name, "port": PORT}
        pods += BROKER_POD.format(name=name, options=given, **values)
    return pods + "".join(CLIENT_POD.format(name=identity) for identity in CASES)


def policy() -> str:
    return POLICY + "".join(RULE.format(name=name, port=PORT, rules=rules) for name, rules in ROLES.items())


@contextmanager
def acl_side(name: str, folder: Path, classes: Path) -> Iterator[Side]:
    """The broker decides; there is no proxy."""
    file = folder / "workloads.yaml"
    file.write_text(workloads(folder, "--acls"), encoding="utf-8")
    try:
        with Lab.up(name, [file]) as lab:
            side = Side(lab, classes)
            side.prepare()
            side.set_acls()
            yield side
    finally:
        sweep(name)


@contextmanager
def rule_side(
    name: str, folder: Path, classes: Path, options: Sequence[str] = ("",), more_rules: str = ""
) -> Iterator[Side]:
    """The broker permits all; Penstock decides. `options` of each broker; `more_rules`: entries of `ingress`."""
    try:
        with own_node(name, folder, workloads(folder, *options), policy() + more_rules) as node:
            side = Side(node.lab, classes)
            side.prepare()
            yield side
    finally:
        sweep(name)


def main() -> None:
    with TemporaryDirectory() as text:
        folder = Path(text)
        classes = compiled(folder / "classes")
        with acl_side("kafka-acls", folder, classes) as side:
            for row, outcome in side.run(sys.argv[1:]).items():
                print(f"{row.client:16}{row.identity:10}{row.case:28}{outcome}")


if __name__ == "__main__":
    main()
