"""Policies in short, and what lints say about them."""

from __future__ import annotations

from collections.abc import Iterable

from config.policy.lint.run import lint
from config.policy.lint.view import Note, View
from config.policy.references import References
from config.policy.resolved import Direction, L7Rule, Protocol
from config.policy.rules import Document, Entry, Peer, PolicyRule, PortRule, PortSpec
from config.policy.selectors import Selector, equals, selector
from tests.config.policy.builders import endpoints as endpoints_file
from tests.config.policy.builders import load, policy

TCP, UDP = int(Protocol.TCP), int(Protocol.UDP)
SUBJECT = selector(equals("id", "a"), equals("k8s:io.kubernetes.pod.namespace", "default"))


def a(spec: str, *, name: str = "p", subject: str = "{matchLabels: {id: a}}", namespace: str = "default") -> str:
    """A policy for the pods `id=a`."""
    return policy(f"endpointSelector: {subject}\n{spec}", name=name, namespace=namespace)


def http(rules: str = "path: /.*", *, peers: str = "", port: str = "80") -> str:
    """An entry with HTTP rules."""
    return f"{{{peers}toPorts: [{{ports: [{{port: '{port}', protocol: TCP}}], rules: {{http: [{{{rules}}}]}}}}]}}"


def plain(*, peers: str = "", port: str = "80") -> str:
    return f"{{{peers}toPorts: [{{ports: [{{port: '{port}', protocol: TCP}}]}}]}}"


def notes_of(*documents: str, pods: str | None = None, references: References | None = None) -> list[Note]:
    file = load(*documents)
    assert file.ok, file.findings
    known = endpoints_file(pods) if pods is not None else None
    return list(lint(View(file.documents, references, known)))


def found(notes: Iterable[Note], *, but: Iterable[str] = ()) -> list[str]:
    return sorted(note.code.id for note in notes if note.code.id not in but)


def entry(
    *peers: Peer,
    ports: tuple[PortSpec, ...] | None = None,
    l7: tuple[L7Rule, ...] | None = None,
    direction: Direction = Direction.EGRESS,
) -> Entry:
    port_rules = None if ports is None else (PortRule(ports, l7),)
    return Entry(direction, False, "", 0, peers or None, port_rules)


def document(*entries: Entry, name: str = "p", subject: Selector = SUBJECT) -> Document:
    """A policy of egress rules, made without a file."""
    named = tuple(
        Entry(e.direction, e.deny, f"egress[{index}]", 10 + index, e.peers, e.port_rules)
        for index, e in enumerate(entries)
    )
    rule = PolicyRule(subject, named, (False, True), (False, True))
    return Document("CiliumNetworkPolicy", "default", name, "p.yaml", 1, (rule,))


def notes_about(*documents: Document, references: References | None = None) -> list[Note]:
    return list(lint(View(documents, references)))
