"""Where settings come from, in order of strength: flags, environment, a folder with one file per key, a YAML file.

The folder is how a ConfigMap is mounted. Keys are the same everywhere: dashes in flags and files, capitals and
underscores behind `PENSTOCK_` in the environment; `CILIUM_` works for the names that Cilium has too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config import codes
from config.findings import Finding, make_finding
from config.text import read_file
from config.yaml_values import read_documents

OWN_PREFIX, CILIUM_PREFIX = "PENSTOCK_", "CILIUM_"

ALIASES: Mapping[str, str] = {"static-cnp-path": "policy-dir"}

CILIUM_NAMES = frozenset(
    (
        "static-cnp-path",
        "state-dir",
        "bpf-root",
        "enable-policy",
        "policy-audit-mode",
        "allow-localhost",
        "http-403-msg",
        "hubble-event-buffer-capacity",
        "hubble-metrics-server",
        "debug",
    )
)

NOT_SETTINGS = frozenset(("PENSTOCK_LAB", "PENSTOCK_POD", "PENSTOCK_SOCK"))
"""Variables of the command line and the lab, not of the daemon."""

_Model = TypeVar("_Model", bound=BaseModel)


class SettingsRefused(Exception):
    """Settings that cannot be used; `findings` lists every reason."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True)
class _Given:
    """One key as somebody wrote it."""

    key: str
    value: object
    source: str
    file: str
    line: int = 0
    column: int = 0


def collect(
    model: type[_Model],
    limits: type[BaseModel],
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    config_dir: Path | None,
    config_file: Path | None,
) -> tuple[_Model, dict[str, str]]:
    """The validated settings and where each came from."""
    top = {_dashed(name): name for name in model.model_fields if name != "limits"}
    inner = {_dashed(name): name for name in limits.model_fields}
    known = sorted([*top, *inner, *ALIASES])
    findings: list[Finding] = []
    chosen: dict[str, _Given] = {}
    for given in [
        *_from_file(config_file, findings),
        *_from_dir(config_dir, findings),
        *_from_environ(environ, known),
        *_from_flags(flags),
    ]:
        key = ALIASES.get(given.key, given.key)
        if key in top or key in inner:
            chosen[key] = given
        else:
            findings.append(_unknown(given, known))
    if findings:
        raise SettingsRefused(findings)
    values: dict[str, Any] = {top[key]: given.value for key, given in chosen.items() if key in top}
    values["limits"] = {inner[key]: given.value for key, given in chosen.items() if key in inner}
    try:
        settings = model.model_validate(values)
    except ValidationError as problem:
        raise SettingsRefused(_refusals(problem, chosen)) from None
    return settings, {key: chosen[key].source if key in chosen else "default" for key in [*top, *inner]}


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _from_flags(flags: Mapping[str, object]) -> list[_Given]:
    return [
        _Given(_dashed(name), value, f"flag --{_dashed(name)}", "command line")
        for name, value in flags.items()
        if value is not None
    ]


def _from_environ(environ: Mapping[str, str], known: list[str]) -> list[_Given]:
    """Cilium's variables first: ours are stronger. Unknown ones of Cilium belong to somebody else."""
    found: list[_Given] = []
    for prefix in (CILIUM_PREFIX, OWN_PREFIX):
        for name, value in sorted(environ.items()):
            key = name.removeprefix(prefix).lower().replace("_", "-")
            if not name.startswith(prefix) or name in NOT_SETTINGS:
                continue
            if prefix == OWN_PREFIX or key in CILIUM_NAMES:
                found.append(_Given(key, value, f"environment {name}", "environment"))
    return found


def _from_dir(folder: Path | None, findings: list[Finding]) -> list[_Given]:
    if folder is None:
        return []
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as problem:
        findings.append(make_finding(codes.SET_SOURCE, str(folder), f"cannot be read: {problem.strerror}"))
        return []
    found: list[_Given] = []
    for path in files:
        data = read_file(path)
        if isinstance(data, Finding):
            findings.append(data)
            continue
        # The end of the last line is the editor's; a value that ends in CR LF keeps it.
        text = data.decode("utf-8", "replace").removesuffix("\n")
        found.append(_Given(path.name, text, f"config-dir {path}", str(path)))
    return found


def _from_file(path: Path | None, findings: list[Finding]) -> list[_Given]:
    if path is None:
        return []
    data = read_file(path)
    if isinstance(data, Finding):
        findings.append(data)
        return []
    documents, refused = read_documents(data)
    if refused is not None:
        findings.append(refused.finding(str(path)))
        return []
    if not documents or documents[0].value is None:
        return []
    value, place = documents[0].value, documents[0].place
    if not isinstance(value, dict) or len(documents) > 1:
        findings.append(make_finding(codes.SET_SOURCE, str(path), "a settings file is one mapping", line=place.line))
        return []
    found: list[_Given] = []
    for key, inner in value.items():
        pairs = [((key,), inner)] if not isinstance(inner, dict) else [((key, name), inner[name]) for name in inner]
        for keys, item in pairs:
            line, column = place.find(keys, key=True)
            name = keys[-1] if len(keys) == 1 or keys[0] == "limits" else ".".join(keys)
            found.append(_Given(_dashed(name), item, f"file {path}:{line}", str(path), line, column))
    return found


def _unknown(given: _Given, known: list[str]) -> Finding:
    close = get_close_matches(given.key, known, n=1)
    return make_finding(
        codes.SET_UNKNOWN,
        given.file,
        f'unknown setting "{given.key}" ({given.source})',
        line=given.line,
        column=given.column,
        path=(given.key,),
        hint=f'did you mean "{close[0]}"?' if close else "",
    )


def _refusals(problem: ValidationError, chosen: Mapping[str, _Given]) -> list[Finding]:
    findings: list[Finding] = []
    for error in problem.errors(include_url=False):
        key = _dashed(str(error["loc"][-1] if error["loc"][0] == "limits" else error["loc"][0]))
        given = chosen.get(key)
        source, file = (given.source, given.file) if given else ("default", "")
        line, column = (given.line, given.column) if given else (0, 0)
        message = f"{key}: {error['msg']} ({source})"
        findings.append(make_finding(codes.SET_VALUE, file, message, line=line, column=column, path=(key,)))
    return findings
