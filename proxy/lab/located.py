"""YAML with places: plain values as PyYAML's safe loader makes them, and the line of every path into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from proxy.lab.errors import LabError

MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document. `value` is plain data, `where(path)` names its place as file:line:column."""

    file: Path
    node: yaml.Node
    value: Any

    def where(self, *path: str | int) -> str:
        """The place of the deepest node of `path` that exists."""
        node = self.node
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node = found
        mark = node.start_mark
        return f"{self.file}:{mark.line + 1}:{mark.column + 1}"

    def get(self, *path: str | int, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value at `path`, checked to be a `kind`; `default` where it is absent or null."""
        value = self.value
        for step in path:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return default
            if value is None:
                return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            dotted = ".".join(map(str, path))
            raise self.error(f"{dotted} cannot be {value!r}", *path)
        return value

    def need(self, *path: str | int, kind: type | tuple[type, ...]) -> Any:
        value = self.get(*path, kind=kind)
        if value is None:
            raise self.error(f"{'.'.join(map(str, path))} is missing", *path)
        return value

    def error(self, message: str, *path: str | int, hint: str = "") -> LabError:
        return LabError(f"{self.where(*path)}: {message}", hint)


def _child(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == str(step):
                return value if isinstance(value, yaml.Node) else None
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        child = node.value[step]
        return child if isinstance(child, yaml.Node) else None
    return None


def read_documents(file: Path) -> Iterator[Document]:
    """Every document of a file that is not empty."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{file}: cannot be read: {error}") from error
    if len(text) > MAX_BYTES:
        raise LabError(f"{file}: larger than {MAX_BYTES >> 20} MiB")
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            value = loader.construct_document(node)
            if value is not None:
                yield Document(file, node, value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise LabError(f"{place}: {error.problem or error}") from error
    finally:
        loader.dispose()
