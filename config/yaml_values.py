"""YAML and JSON text → plain values, each with its line and column.

Built from libyaml's event stream, not from its object constructor, because a policy file is input from outside:
depth, number of values, aliases and tags are bounded or refused, and a key given twice is an error (PyYAML would keep
the last). Plain scalars are read as in YAML 1.2's core schema, so that `no`, `0123` and `1:30` stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from config import codes
from config.findings import Code, Finding, PathItem, ValuePath, make_finding

MAX_DEPTH = 64
MAX_VALUES = 1_000_000
MAX_ALIASES = 64

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+[eE][-+]?[0-9]+\Z")
_WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LONGEST_INTEGER = 20


@dataclass(slots=True)
class Place:
    """Where a value begins (1-based), where its keys stand, and the places of what it contains."""

    line: int
    column: int
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    items: dict[PathItem, Place] = field(default_factory=dict)

    def find(self, path: ValuePath, *, key: bool = False) -> tuple[int, int]:
        """Line and column of the deepest known part of `path`; with `key`, of the key rather than its value."""
        place = self
        for depth, item in enumerate(path):
            if key and depth == len(path) - 1 and isinstance(item, str) and item in place.keys:
                return place.keys[item]
            inside = place.items.get(item)
            if inside is None:
                break
            place = inside
        return place.line, place.column


@dataclass(frozen=True, slots=True)
class YamlDocument:
    value: Value
    place: Place


class YamlRefused(Exception):
    """The text is not accepted; says where and why."""

    def __init__(self, code: Code, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.code = code
        self.line = line
        self.column = column

    def finding(self, file: str) -> Finding:
        return make_finding(self.code, file, str(self), line=self.line, column=self.column)


def read_documents(data: bytes) -> tuple[list[YamlDocument], YamlRefused | None]:
    """All documents of a file, or those before the first refusal together with it."""
    documents: list[YamlDocument] = []
    try:
        for document in _Builder(_checked(data)).documents():
            documents.append(document)
    except YamlRefused as refused:
        return documents, refused
    return documents, None


def _checked(data: bytes) -> str:
    """UTF-8 with or without byte order mark; anything else is refused with its name."""
    for mark, name in ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if data.startswith(mark):
            raise YamlRefused(codes.YAML_ENCODING, f"the file is {name}; only UTF-8 is accepted", 1, 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        column = problem.start - data.rfind(b"\n", 0, problem.start)
        message = f"byte 0x{data[problem.start]:02x} is not UTF-8"
        raise YamlRefused(codes.YAML_ENCODING, message, line, column) from None


@dataclass(slots=True)
class _Open:
    """A mapping or sequence that is being read."""

    value: list[Value] | dict[str, Value]
    place: Place
    anchor: str | None
    count: int = 1
    key: str | None = None


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Value
    place: Place
    count: int


class _Builder:
    """Events in, values out; a stack of our own, so that depth costs no recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Anchored] = {}
        self._aliases = 0
        self._values = 0

    def documents(self) -> Iterator[YamlDocument]:
        try:
            # The C parser is six times faster than the one in Python.
            for event in yaml.parse(self._text, Loader=yaml.CSafeLoader):
                if isinstance(event, yaml.DocumentStartEvent):
                    self._anchors.clear()
                    continue
                done = self._take(event)
                if done is not None:
                    yield YamlDocument(done.value, done.place)
        except yaml.MarkedYAMLError as problem:
            mark = problem.problem_mark or problem.context_mark
            text = " ".join(part for part in (problem.context, problem.problem) if part)
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            raise YamlRefused(codes.YAML_SYNTAX, f"not valid YAML: {text}", line, column) from None
        except yaml.YAMLError as problem:
            text = str(problem).splitlines()[0]
            raise YamlRefused(codes.YAML_SYNTAX, f"not valid YAML: {text}", 0, 0) from None

    def _take(self, event: yaml.Event) -> _Anchored | None:
        """One event; the document's value when this was its last."""
        match event:
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.ScalarEvent():
                return self._scalar(event)
            case yaml.AliasEvent():
                return self._alias(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                top = self._stack.pop()
                return self._put(_Anchored(top.value, top.place, top.count), top.anchor, event)
        return None

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._refuse_tag(event)
        if len(self._stack) >= MAX_DEPTH:
            raise _refusal(codes.YAML_DEPTH, f"nested more than {MAX_DEPTH} levels deep", event)
        if self._wants_key():
            raise _refusal(codes.YAML_KEY, "a mapping or list cannot be a key", event)
        mapping = isinstance(event, yaml.MappingStartEvent)
        self._stack.append(_Open({} if mapping else [], _place(event), event.anchor))

    def _wants_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _scalar(self, event: yaml.ScalarEvent) -> _Anchored | None:
        self._refuse_tag(event)
        if self._wants_key():
            self._take_key(event)
            return None
        plain = event.implicit[0] and event.tag is None
        value = _plain_value(event.value) if plain else event.value
        return self._put(_Anchored(value, _place(event), 1), event.anchor, event)

    def _take_key(self, event: yaml.ScalarEvent) -> None:
        top, key = self._stack[-1], event.value
        assert isinstance(top.value, dict)
        if event.implicit[0] and key == "<<":
            raise _refusal(codes.YAML_MERGE, "merge keys (<<) are not accepted", event)
        if key in top.value:
            first = top.place.keys[key][0]
            raise _refusal(codes.YAML_DUPLICATE, f'key "{key}" is given twice (first on line {first})', event)
        if event.anchor is not None:
            raise _refusal(codes.YAML_KEY, "a key cannot have an anchor", event)
        top.key = key
        top.place.keys[key] = _position(event)

    def _alias(self, event: yaml.AliasEvent) -> _Anchored | None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise _refusal(codes.YAML_ALIASES, f"more than {MAX_ALIASES} aliases in one file", event)
        if self._wants_key():
            raise _refusal(codes.YAML_KEY, "an alias cannot be a key", event)
        if event.anchor not in self._anchors:
            # Unknown, or an alias to something that contains it.
            raise _refusal(codes.YAML_SYNTAX, f'alias "*{event.anchor}" refers to nothing before it', event)
        return self._put(self._anchors[event.anchor], None, event)

    def _put(self, item: _Anchored, anchor: str | None, event: yaml.Event) -> _Anchored | None:
        """Adds a finished value to what is open, or returns it when nothing is."""
        if anchor is not None:
            self._anchors[anchor] = item
        self._values += 1
        if self._values > MAX_VALUES or item.count > MAX_VALUES:
            raise _refusal(codes.YAML_SIZE, f"more than {MAX_VALUES} values in one file", event)
        if not self._stack:
            return item
        top = self._stack[-1]
        top.count += item.count
        if isinstance(top.value, list):
            top.place.items[len(top.value)] = item.place
            top.value.append(item.value)
        else:
            assert top.key is not None
            top.place.items[top.key] = item.place
            top.value[top.key] = item.value
            top.key = None
        return None

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            raise _refusal(codes.YAML_TAG, f'tag "{event.tag}" is not accepted', event)


def _position(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)


def _refusal(code: Code, message: str, event: yaml.Event) -> YamlRefused:
    return YamlRefused(code, message, *_position(event))


def _place(event: yaml.Event) -> Place:
    return Place(*_position(event))


def _plain_value(text: str) -> Value:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text) and len(text) <= _LONGEST_INTEGER:
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text
