"""`penstock policy test`: a table of connections and requests with the verdicts that are expected of policies.

cases:
- name: the front may list the cart            # optional
  from: shop/front                             # as `policy explain --from`
  to: shop/cart
  port: 80/tcp
  http: GET /items                             # or grpc, dns, kafka, sni
  headers: ["x-token: 1"]
  expect: allow                                # allow, deny or audit
  by: cart-ingress                             # optional: the policy that decides
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config import codes
from config.findings import Finding, make_finding
from config.policy.explain import Explanation, explain
from config.policy.offline import Files
from config.policy.parties import PartyError
from config.schema_errors import SchemaCodes, field_names, schema_findings
from config.settings import Settings
from config.text import read_file
from config.yaml_values import Place, read_documents
from proxy.questions import Asked, QuestionError, question

_CODES = SchemaCodes(codes.CASE_SCHEMA, codes.CASE_SCHEMA, codes.CASE_SCHEMA, codes.CASE_SCHEMA)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CaseFields(_Strict):
    """One row as it stands in the file."""

    name: str = ""
    source: str = Field(alias="from", min_length=1)
    to: str = Field(min_length=1)
    port: str = ""
    namespace: str = "default"
    http: str = ""
    headers: list[str] = Field(default_factory=list)
    host: str = ""
    grpc: str = ""
    dns: str = ""
    kafka: str = ""
    sni: str = ""
    names: list[str] = Field(default_factory=list)
    expect: Literal["allow", "deny", "audit"]
    by: str = ""


class _Table(_Strict):
    cases: list[CaseFields] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Case:
    """One row. `wanted_by`: the policy that must be among those that decide."""

    name: str
    file: str
    line: int
    asked: Asked
    expected: str
    wanted_by: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """`fault` is empty when the verdict is as expected; `seen` is empty when the question made no sense."""

    case: Case
    seen: str
    fault: str
    why: str = ""

    @property
    def ok(self) -> bool:
        return not self.fault

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.case.name,
            "file": self.case.file,
            "line": self.case.line,
            "expected": self.case.expected,
            "seen": self.seen or None,
            "ok": self.ok,
            "fault": self.fault,
            "why": self.why,
        }


def read_cases(path: Path) -> list[Case] | list[Finding]:
    """The rows of a file, or what is wrong with it."""
    data = read_file(path)
    if isinstance(data, Finding):
        return [data]
    documents, refused = read_documents(data)
    if refused is not None:
        return [refused.finding(str(path))]
    cases: list[Case] = []
    findings: list[Finding] = []
    for document in documents:
        try:
            table = _Table.model_validate(document.value)
        except ValidationError as problem:
            findings += schema_findings(problem, str(path), document.place, _CODES, field_names(_Table))
        else:
            cases += [_case(item, str(path), document.place, index) for index, item in enumerate(table.cases)]
    if not cases and not findings:
        findings.append(make_finding(codes.CASE_SCHEMA, str(path), "the file holds no cases"))
    return findings or cases


def _case(item: CaseFields, file: str, place: Place, index: int) -> Case:
    asked = Asked(
        source=item.source,
        destination=item.to,
        port=item.port,
        namespace=item.namespace,
        http=item.http,
        headers=tuple(item.headers),
        host=item.host,
        grpc=item.grpc,
        names=tuple(item.names),
        dns=item.dns,
        kafka=item.kafka,
        sni=item.sni,
    )
    what = item.http or item.grpc or item.dns or item.kafka or item.sni
    name = item.name or " ".join(filter(None, (item.source, "->", item.to, item.port, what)))
    return Case(name, file, place.find(("cases", index))[0], asked, item.expect, item.by)


def run_cases(cases: Sequence[Case], files: Files, settings: Settings) -> Iterable[Result]:
    """Each row against the policies; rows that need pods of their own get a world of their own."""
    shared = files.world(settings)
    for case in cases:
        try:
            parties = (case.asked.source, case.asked.destination)
            world = shared
            if any("=" in party for party in parties):
                world = files.world(settings, parties=parties, namespace=case.asked.namespace)
            yield _result(case, explain(world, question(case.asked, world)))
        except (PartyError, QuestionError) as error:
            yield Result(case, "", str(error))


def _result(case: Case, answer: Explanation) -> Result:
    seen = answer.verdict.value
    sides = (("egress", answer.egress), ("ingress", answer.ingress))
    why = "; ".join(f"{name}: {_why(side.to_json())}" for name, side in sides if side.enforced)
    if seen != case.expected:
        return Result(case, seen, f"expected {case.expected}, seen {seen}", why)
    deciding = {by.policy for _, side in sides for by in side.by}
    if case.wanted_by and case.wanted_by not in deciding:
        return Result(case, seen, f"decided by {', '.join(sorted(deciding)) or 'nobody'}, not {case.wanted_by}", why)
    return Result(case, seen, "", why)


def _why(side: dict[str, Any]) -> str:
    by = ", ".join(f"{item['policy']} {item['rule']} {item['file']}:{item['line']}" for item in side["by"])
    return " ".join(
        filter(None, (side["verdict"], f"by {by}" if by else "", f"({side['note']})" if side.get("note") else ""))
    )
