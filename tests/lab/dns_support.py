"""What the end-to-end tests of DNS do in a pod: ask, connect, and find out what is open."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from proxy.flows.model import Dns, Flow
from proxy.lab import Lab, linux
from proxy.lab.lookup import Outcome, lookup, question
from proxy.lab.plan import DNS_POD
from proxy.lab.progress import Progress
from tests.lab.support import PATIENCE_S, SILENCE_S, Node

T = TypeVar("T")
LOOKUP_S = 8.0
"""Longer than the agent waits for a server by default."""


def inside(node: Node, pod: str, work: Callable[[], T]) -> T:
    """Do something in a pod's network."""
    place = node.lab.state.place(pod)

    def enter_and_work() -> T:
        linux.setns(place.netns)
        return work()

    return linux.in_thread(enter_and_work)


def ask(
    node: Node, pod: str, name: str, kind: str = "A", *, server: str = "", tcp: bool = False, timeout: float = LOOKUP_S
) -> Outcome:
    """One lookup, of the cluster's DNS if no server is named."""
    asked = server or node.address(DNS_POD, 4)
    return inside(node, pod, lambda: lookup(asked, question(name, kind), timeout, tcp=tcp))


def addresses(node: Node, pod: str, name: str, kind: str = "A", **options: str | bool) -> tuple[str, ...]:
    """Of a lookup that has to be answered."""
    found = ask(node, pod, name, kind, **options)  # type: ignore[arg-type]
    assert found.outcome == "answers", found
    return found.addresses


def is_open(node: Node, pod: str, address: str, port: int = 80, silence_s: float = SILENCE_S) -> bool:
    """Whether anything at all comes back from there: a server, or a reset."""
    with node.lab.socket(pod, socket.AF_INET6 if ":" in address else socket.AF_INET) as connection:
        connection.settimeout(silence_s)
        try:
            connection.connect((address, port))
        except TimeoutError:
            return False
        except ConnectionRefusedError:
            pass
        return True


@contextmanager
def connected(node: Node, pod: str, address: str, port: int) -> Iterator[socket.socket]:
    with node.lab.socket(pod, socket.AF_INET6 if ":" in address else socket.AF_INET) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect((address, port))
        yield connection


def echoes(connection: socket.socket, text: bytes = b"still there\n") -> bool:
    connection.sendall(text)
    return connection.recv(64) == text


def dns_flows(node: Node, pod: str, wanted: Callable[[Flow, Dns], bool]) -> list[Flow]:
    """Records of a pod's lookups."""
    return [
        flow
        for flow in node.lab.flows()
        if flow.l7 is not None
        and flow.l7.dns is not None
        and pod.partition("/")[2] in (flow.source.pod_name, flow.destination.pod_name)
        and wanted(flow, flow.l7.dns)
    ]


def penstock(node: Node, *words: str) -> str:
    """What a command of the command line prints."""
    command = [sys.executable, "-m", "proxy", *words, "--socket", str(node.lab.agent.socket)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def dns_entry(names: str, server: str = "") -> str:
    """An egress entry: these DNS rules for the cluster's DNS, or for what `server` selects."""
    peer = server or (
        "toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': kube-system, 'k8s:k8s-app': kube-dns}}]"
    )
    return f"""\
  - {peer}
    toPorts:
    - ports: [{{port: "53", protocol: ANY}}]
      rules: {{dns: {names}}}
"""


def names_entry(names: str, *ports: int, rules: str = "") -> str:
    """An egress entry: what the names open."""
    listed = ", ".join(f'{{port: "{port}", protocol: TCP}}' for port in ports)
    more = f"      {rules}\n" if rules else ""
    return f"  - toFQDNs: {names}\n    toPorts:\n    - ports: [{listed}]\n{more}"


def policy(app: str, *entries: str) -> str:
    """Egress of the pods with that label in the namespace `shop`."""
    return f"""\
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {app}, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: {app}}}}}
  egress:
{"".join(entries)}"""


def pods(*names: str) -> str:
    """Manifests of pods in the namespace `shop`. APP and APP-N have the label APP."""
    return "".join(
        f"---\nkind: Pod\napiVersion: v1\n"
        f"metadata: {{name: {name}, namespace: shop, labels: {{app: {name.partition('-')[0]}}}}}\n"
        for name in names
    )


@contextmanager
def dns_lab(
    name: str,
    folder: Path,
    workloads: str,
    policies: str | Sequence[Path],
    settings: Mapping[str, object] | None = None,
    ttl_s: int = 300,
) -> Iterator[Node]:
    """A lab whose cluster DNS answers with that TTL, with its agent."""
    (folder / "policies").mkdir(parents=True)
    texts = [policies] if isinstance(policies, str) else [file.read_text(encoding="utf-8") for file in policies]
    (folder / "policies" / "server.yaml").write_text("\n---\n".join(texts), encoding="utf-8")
    (folder / "workloads.yaml").write_text(workloads, encoding="utf-8")
    more = {"hubble-event-buffer-capacity": 16383, **(settings or {})}
    with Lab.up(
        name,
        [folder / "workloads.yaml"],
        policies=folder / "policies",
        settings=more,
        progress=Progress(quiet=True),
        dns_ttl_s=ttl_s,
    ) as lab:
        yield Node(lab)
