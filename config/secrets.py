"""Secrets in files: `secrets-dir/NAMESPACE/NAME`, a file with the value or a folder as Kubernetes mounts a Secret.

Of a folder with several keys the one called `value` or `token` counts. One line feed at the end is cut off. What is
wrong becomes a finding; the values themselves never stand in one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config import codes
from config.findings import Code, Finding, make_finding
from config.text import read_file

MAX_SECRETS = 1000
MAX_BYTES = 64 * 1024
"""Of one secret. All of them are in the memory of every worker."""

_KEYS = ("value", "token")
# What can stand in a header (RFC 9110 §5.5), without obs-text.
_VALUE = re.compile(rb"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?\Z")


@dataclass(frozen=True, slots=True)
class Secrets:
    """`values`: `namespace/name` → value."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    findings: tuple[Finding, ...] = ()


def read_secrets(folder: Path) -> Secrets:
    """All secrets below the folder; never raises for what is there."""
    values: dict[str, str] = {}
    findings: list[Finding] = []
    for item in _items(folder):
        if len(values) + len(findings) >= MAX_SECRETS:
            findings.append(_fault(codes.SECRET_MANY, folder, f"more than {MAX_SECRETS} secrets: the rest is not read"))
            break
        found = item if isinstance(item, Finding) else _read(item)
        if isinstance(found, Finding):
            findings.append(found)
        elif isinstance(item, Path):
            values[f"{item.parent.name}/{item.name}"] = found
    return Secrets(values, tuple(findings))


def _items(folder: Path) -> Iterator[Path | Finding]:
    """`NAMESPACE/NAME` of everything that should be a secret."""
    for namespace in _names(folder):
        if isinstance(namespace, Finding):
            yield namespace
        elif os.path.isfile(folder / namespace):
            yield _fault(codes.SECRET_PLACE, folder / namespace, "a secret stands in a folder of its namespace")
        else:
            for name in _names(folder / namespace):
                yield name if isinstance(name, Finding) else folder / namespace / name


def _names(folder: Path) -> list[str | Finding]:
    """Without what begins with a dot: a mounted Secret keeps its versions there, to which its keys are links."""
    try:
        return [*sorted(name for name in os.listdir(folder) if not name.startswith("."))]
    except OSError as problem:
        return [_fault(codes.SECRET_UNREADABLE, folder, f"cannot be listed: {problem.strerror}")]


def _read(path: Path) -> str | Finding:
    key = _key(path) if os.path.isdir(path) else ""
    if isinstance(key, Finding):
        return key
    data = read_file(path / key)
    if isinstance(data, Finding):
        return _fault(codes.SECRET_UNREADABLE, path / key, data.message)
    if len(data) > MAX_BYTES:
        return _fault(codes.SECRET_VALUE, path / key, f"the secret has more than {MAX_BYTES} bytes")
    value = data.removesuffix(b"\n")
    if not _VALUE.match(value):
        message = "the secret has characters that cannot stand in a header, or none"
        return _fault(codes.SECRET_VALUE, path / key, message)
    return value.decode("ascii")


def _key(path: Path) -> str | Finding:
    """Which file of the folder has the value."""
    keys = _names(path)
    if len(keys) == 1:
        return keys[0]
    wanted = " or ".join(_KEYS)
    missing = _fault(codes.SECRET_KEYS, path, f"a secret with {len(keys)} keys, none of them {wanted}")
    return next((key for key in _KEYS if key in keys), missing)


def _fault(code: Code, path: Path, message: str) -> Finding:
    return make_finding(code, str(path), message)
