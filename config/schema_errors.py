"""What pydantic says about a document → findings with file, line and column.

Pydantic's path is a tuple of keys and indices, the same as that of the value in the YAML document, so each error
leads to the line where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.findings import Code, Finding, ValuePath, make_finding
from config.yaml_values import Place

MAX_ERRORS = 100
"""About one document. A suggestion costs a millisecond, and a file has room for a million misspelt keys."""

_TYPES = {
    "string_type": "text",
    "string_sub_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


@dataclass(frozen=True, slots=True)
class SchemaCodes:
    """Which code a kind of schema error gets in this sort of file."""

    unknown: Code
    missing: Code
    wrong_type: Code
    value: Code


def schema_findings(
    problem: ValidationError, file: str, place: Place, chosen: SchemaCodes, names: Iterable[str]
) -> list[Finding]:
    """One finding per error, of the first hundred; `names` are the known keys, for suggestions."""
    known = sorted(set(names))
    return [_finding(error, file, place, chosen, known) for error in problem.errors(include_url=False)[:MAX_ERRORS]]


def _finding(error: ErrorDetails, file: str, place: Place, chosen: SchemaCodes, names: list[str]) -> Finding:
    path: ValuePath = error["loc"]
    kind, given = error["type"], error["input"]
    key_matters = kind == "extra_forbidden"
    line, column = place.find(path[:-1] if kind == "missing" else path, key=key_matters)
    code, message, hint = chosen.value, f"{_name(path)}: {error['msg']}", None
    if key_matters:
        code, message = chosen.unknown, f'unknown field "{path[-1]}"'
        close = get_close_matches(str(path[-1]), names, n=1)
        hint = f'did you mean "{close[0]}"?' if close else None
    elif kind == "missing":
        code, message = chosen.missing, f'"{path[-1]}" is missing'
    elif kind in _TYPES:
        code, message = chosen.wrong_type, f"{_name(path)} must be {_TYPES[kind]}, not {_shown(given)}"
        hint = f'put it in quotes: "{_plain(given)}"' if kind == "string_type" and _scalar(given) else None
    elif kind == "value_error":
        message = str(error.get("ctx", {}).get("error", error["msg"]))
    elif kind == "literal_error":
        message = f"{_name(path)} cannot be {_shown(given)}; wanted: {error['ctx']['expected']}"
    return make_finding(code, file, message, line=line, column=column, path=path, hint=hint)


def _name(path: ValuePath) -> str:
    for item in reversed(path):
        if isinstance(item, str):
            return f'"{item}"'
    return "the document"


def _scalar(value: object) -> bool:
    return isinstance(value, (int, float))


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return f"the boolean {_plain(value)}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'"{value[:60]}"'
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return type(value).__name__


def field_names(*models: type[BaseModel]) -> frozenset[str]:
    """All keys that these models and the models inside them know."""
    names: set[str] = set()
    seen: set[type[BaseModel]] = set()
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            names.add(field.alias or name)
            waiting.extend(_models_in(field.annotation))
    return frozenset(names)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments: Mapping[int, Any] = dict(enumerate(getattr(annotation, "__args__", ())))
    return [model for inner in arguments.values() for model in _models_in(inner)]
