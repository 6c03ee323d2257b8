"""Policy files and endpoints → what an agent would enforce that starts with them and has all pods on its node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from config.endpoints import EndpointsFile
from config.findings import Finding, has_errors
from config.manifests import read_endpoints
from config.policy.explain import World
from config.policy.load import LoadedFile, load_file
from config.policy.lockdown import Lockdown, stand_in
from config.policy.parties import DEFAULT_NAMESPACE, is_labels, pod_with_labels
from config.policy.references import references_of
from config.policy.resolve import resolve
from config.policy.rules import Document, Referenced
from config.policy.validate import validate
from config.settings import Settings


@dataclass(frozen=True, slots=True)
class Files:
    """All that the files say. A broken policy file stands in `documents` as the agent takes it: locked down.

    `findings` are about policy files; those about endpoints stand in `endpoints`.
    """

    documents: tuple[Document, ...]
    endpoints: EndpointsFile
    objects: tuple[Referenced, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return not has_errors(self.findings) and self.endpoints.ok

    def world(
        self,
        settings: Settings,
        *,
        parties: Iterable[str] = (),
        namespace: str = DEFAULT_NAMESPACE,
    ) -> World:
        """What is enforced. Those `parties` that are labels get a pod that has them. Raises PartyError."""
        endpoints = replace(self.endpoints.on_this_node(), findings=())
        for text in dict.fromkeys(filter(is_labels, parties)):
            made = pod_with_labels(text, endpoints, namespace)
            endpoints = replace(endpoints, endpoints=(*endpoints.endpoints, made))
        references = references_of(self.objects)
        snapshot = resolve(self.documents, endpoints, settings, 1, references=references)
        return World(snapshot, self.documents, settings.tofqdns_bind_names)


def read_files(policies: Sequence[Path], endpoints: Sequence[Path]) -> Files:
    """Reads files and folders; never raises for what is in them."""
    loaded = validate(policies).files
    return Files(
        documents=tuple(document for file in loaded for document in _in_force(file)),
        endpoints=read_endpoints(endpoints),
        objects=tuple(item for file in (*loaded, *map(load_file, endpoints)) for item in file.objects),
        findings=tuple(finding for file in loaded for finding in file.findings),
    )


def _in_force(file: LoadedFile) -> tuple[Document, ...]:
    """As the agent takes a file that it never saw whole."""
    if file.ok:
        return file.documents
    lockdowns = file.lockdowns
    if not file.documents and not lockdowns:
        # A folder that cannot be listed: who knows what is in it.
        lockdowns = (Lockdown(deny=True),)
    return (*file.documents, stand_in(lockdowns, file.path))
