"""What is to be said about a file: a code, how bad it is, where it stands, and what helps.

Every reader of files in this package reports `Finding`s instead of raising; `codes.py` is the list of codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_TEXT = 500
"""Characters of a message or path: a file may have keys and values of megabytes, a log must not."""

PathItem = str | int
ValuePath = tuple[PathItem, ...]
"""Where a value stands in its document: keys and indices from the top."""


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding. `id` never changes its meaning; `hint` says what to do."""

    id: str
    severity: Severity
    title: str
    hint: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing found. `line` and `column` count from 1, 0 means the whole file; `path` reads `spec.ingress[0]`."""

    file: str
    line: int
    column: int
    code: str
    severity: Severity
    path: str
    message: str
    hint: str = ""

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        where = ":".join([self.file, *(str(number) for number in (self.line, self.column) if number)])
        return f"{where}: {self.severity}[{self.code}] {self.message}"


def make_finding(
    code: Code,
    file: str,
    message: str,
    *,
    line: int = 0,
    column: int = 0,
    path: ValuePath = (),
    hint: str | None = None,
) -> Finding:
    return Finding(
        file=file,
        line=line,
        column=column,
        code=code.id,
        severity=code.severity,
        path=_clipped(path_text(path)),
        message=_clipped(message),
        hint=code.hint if hint is None else hint,
    )


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def path_text(path: ValuePath) -> str:
    """`("spec", "ingress", 0)` as people write it: `spec.ingress[0]`."""
    text = ""
    for item in path:
        if isinstance(item, int):
            text += f"[{item}]"
        else:
            text += f".{item}" if text else item
    return text


def has_errors(findings: Iterable[Finding]) -> bool:
    return any(finding.is_error for finding in findings)
