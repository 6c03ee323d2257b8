"""Server names of TLS connections (`serverNames`) against patterns.

`*` is any number of characters of one label, `**` as a whole label is one or more labels, and either alone is any host
name. Names are compared in lower case; a connection that names no server satisfies no pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import re2

from config.policy.faults import Fault, told
from config.policy.patterns import options
from config.policy.resolved import Origin, ServerName
from parsers.facts import ClientHello

MAX_PATTERN = 255
_LABEL = "[-a-z0-9_]"
_FORM = re.compile(r"(\*\*|[-a-zA-Z0-9_*]+)([.](\*\*|[-a-zA-Z0-9_*]+))*\Z")


def server_name_fault(text: str) -> str | None:
    """Why `text` can be no pattern; None when it can."""
    if not text:
        return "empty server name is not allowed"
    if len(text) > MAX_PATTERN:
        return f"a server name has at most {MAX_PATTERN} characters"
    if not _FORM.match(text):
        return f'"{text[:80]}" is not a server name: labels of letters, digits, "-", "_" and "*", with dots between'
    if any("**" in label and label != "**" for label in text.split(".")):
        return f'"{text[:80]}": "**" stands for whole labels, alone between dots'
    return None


def server_name_regex(pattern: str) -> str:
    """The RE2 expression, for full matches of lower-case names."""
    text = pattern.lower()
    if text in ("*", "**"):
        return f"{_LABEL}+([.]{_LABEL}+)*"
    labels = (
        f"{_LABEL}+([.]{_LABEL}+)*" if label == "**" else label.replace("*", f"{_LABEL}*") for label in text.split(".")
    )
    return "[.]".join(labels)


class ServerNameMatcher:
    """`rules`: each server name with the id of the origin that it came from."""

    __slots__ = ("_masks", "_names", "_rules", "_set")

    def __init__(self, rules: Sequence[tuple[ServerName, int]]) -> None:
        self._rules = tuple(rules)
        self._names: dict[str, int] = {}
        self._masks: list[int] = []
        self._set: re2.Set | None = None
        for index, (rule, _) in enumerate(rules):
            if "*" in rule.pattern:
                if self._set is None:
                    self._set = re2.Set.FullMatchSet(options())
                self._set.Add(server_name_regex(rule.pattern).encode())
                self._masks.append(1 << index)
            else:
                self._names[rule.pattern] = self._names.get(rule.pattern, 0) | 1 << index
        if self._set is not None:
            self._set.Compile()

    def judge(self, hello: ClientHello) -> int | None:
        """The origin id of the first rule that permits the connection, or None."""
        name = hello.server_name.lower()
        if not name or not hello.server_name.isascii():
            return None
        mask = self._names.get(name, 0)
        if self._set is not None:
            for index in self._set.Match(name.encode()) or ():
                mask |= self._masks[index]
        return self._rules[(mask & -mask).bit_length() - 1][1] if mask else None

    def explain(self, hello: ClientHello, origins: Mapping[int, Origin]) -> str:
        return told(self._rules, lambda rule: sni_faults(rule, hello), origins, "server name")


def sni_faults(rule: ServerName, hello: ClientHello) -> list[Fault]:
    """What of the rule the connection does not satisfy."""
    if not hello.server_name:
        return [Fault("sni", "the client names no server")]
    if ServerNameMatcher([(rule, 1)]).judge(hello) is not None:
        return []
    return [Fault("sni", f'server name "{hello.server_name}" is not "{rule.pattern}"')]
