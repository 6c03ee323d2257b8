"""What the readers of one policy document share: whose it is, and where to put findings."""

from __future__ import annotations

from dataclasses import dataclass, field

from config.findings import Code, Finding, Severity, ValuePath, has_errors, make_finding
from config.yaml_values import Place

MAX_FINDINGS = 1000
"""About one document; what more there is would not be read. One error is always among them if there is any."""


@dataclass(slots=True)
class Scope:
    """One document: `namespace` is empty for cluster-wide policies."""

    file: str
    place: Place
    kind: str
    namespace: str
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: Code, path: ValuePath, message: str, *, hint: str | None = None, key: bool = False) -> None:
        """A finding about the value at `path`, or with `key` about the key itself."""
        if len(self.findings) >= MAX_FINDINGS and (code.severity is not Severity.ERROR or not self.ok):
            return
        line, column = self.place.find(path, key=key)
        self.findings.append(make_finding(code, self.file, message, line=line, column=column, path=path, hint=hint))

    def line(self, path: ValuePath) -> int:
        return self.place.find(path)[0]

    @property
    def ok(self) -> bool:
        return not has_errors(self.findings)
