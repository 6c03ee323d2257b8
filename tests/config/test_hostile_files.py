"""Files that are made to hurt: each ends in a finding, what was in force stays, and the store goes on."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config import codes
from config.findings import MAX_TEXT, Code
from config.policy import load
from config.policy.load import parse_file
from config.policy.resolved import Snapshot
from config.policy.scope import MAX_FINDINGS
from config.policy.validate import validate
from config.schema_errors import MAX_ERRORS
from config.settings import Settings
from config.store import PolicyStore, Refresh
from config.text import MAX_FILE_BYTES
from tests.config.policy.builders import PODS, World, policy

GOOD = policy("endpointSelector: {matchLabels: {id: a}}\ningress: [{fromEndpoints: [{matchLabels: {id: foo}}]}]")
OTHER = GOOD.replace("name: p", "name: other").replace("id: foo", "id: bar")
HEAD = policy("endpointSelector: {}")
NOBODY = 65534


class Node:
    """A store over a folder that the user nobody may look into, with two good policies in force."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "policies"
        self.folder.mkdir()
        self.path = self.folder / "p.yaml"
        self.path.write_text(GOOD)
        endpoints = folder / "endpoints.yaml"
        endpoints.write_text(PODS)
        self.store = PolicyStore(Settings(policy_dir=self.folder, endpoints_file=endpoints))
        self.snapshot = Snapshot(0)
        self.refresh()

    def refresh(self) -> Refresh:
        found = self.store.refresh()
        self.snapshot = found.snapshot or self.snapshot
        return found

    def into_a(self, peer: str) -> str:
        return World(self.snapshot).into("a", peer, "80/tcp")

    def replace(self, make: Callable[[Path], object]) -> None:
        """What `make` puts there takes the place of the good file."""
        self.path.unlink()
        make(self.path)

    def is_refused(self, expected: Code) -> None:
        """`expected` is found by the store and by `validate`; the last good version is in force."""
        found = self.refresh()
        assert expected.id in {finding.code for finding in found.findings if finding.is_error}
        assert found.stale_files == (str(self.path),)
        assert (self.into_a("foo"), self.into_a("bar")) == ("allow", "deny")
        report = validate([self.folder], lint=True)
        assert expected.id in {finding.code for file in report.files for finding in file.findings}
        assert not report.valid

    def heals(self) -> None:
        """Other files are read meanwhile, and this one when it is good again."""
        (self.folder / "other.yaml").write_text(OTHER)
        self.refresh()
        assert (self.into_a("foo"), self.into_a("bar")) == ("allow", "allow")
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        else:
            self.path.unlink()
        self.path.write_text(GOOD)
        assert self.refresh().ok


@pytest.fixture
def node() -> Iterator[Node]:
    # Not below tmp_path, which nobody but the owner may enter.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield Node(folder)
    shutil.rmtree(folder)


def laughs(width: int, depth: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(lines)


def http(*paths: str) -> str:
    rules = ", ".join(f"{{path: '{path}'}}" for path in paths)
    return f"{HEAD}  ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {{http: [{rules}]}}}}]}}]\n"


CONTENTS: dict[str, tuple[str | bytes, Code]] = {
    "billion laughs": (laughs(9, 12), codes.YAML_SIZE),
    "two laughs, often": (laughs(2, 40), codes.YAML_SIZE),
    "many aliases": ("a: &a x\nb: [" + "*a, " * 100 + "]", codes.YAML_ALIASES),
    "an alias to itself": ("a: &a [*a]", codes.YAML_SYNTAX),
    "deep lists": ("[" * 100_000, codes.YAML_DEPTH),
    "deep mappings": ("{a: " * 100_000, codes.YAML_DEPTH),
    "deep blocks": ("- " * 100_000, codes.YAML_DEPTH),
    "deep inside of a policy": (f"{HEAD}  ingress: {'[' * 100_000}", codes.YAML_DEPTH),
    "half a document": (GOOD.partition("spec:")[0], codes.RULE_EMPTY_OBJECT),
    "half a line": (GOOD[:-9], codes.YAML_SYNTAX),
    "half JSON": ('{"apiVersion": "cilium.io/v2", "kind": "CiliumNetw', codes.YAML_SYNTAX),
    "not UTF-8": (GOOD.encode() + b"# \xff\n", codes.YAML_ENCODING),
    "UTF-16": (GOOD.encode("utf-16"), codes.YAML_ENCODING),
    "a surrogate": ('a: "\\ud800"', codes.YAML_SYNTAX),
    "zero bytes": (GOOD.encode() + b"\0", codes.YAML_SYNTAX),
    "only zero bytes": (b"\0" * 4096, codes.YAML_SYNTAX),
    "an object of Python": ("a: !!python/object/apply:os.system [ls]", codes.YAML_TAG),
    "a merge key": ("a: &a {b: c}\nd: {<<: *a}", codes.YAML_MERGE),
    "a key twice": (GOOD.replace("ingress:", "ingress: []\n  ingress:"), codes.YAML_DUPLICATE),
    "a huge number": (f"{HEAD}  ingress: {'9' * 100_000}\n", codes.SCHEMA_TYPE),
    "a huge exponent": (f"{HEAD}  ingress: [1e999999999]\n", codes.SCHEMA_TYPE),
    "a huge port": (f"{HEAD}  ingress: [{{toPorts: [{{ports: [{{port: '{'9' * 100_000}'}}]}}]}}]\n", codes.PORT_BAD),
    "a huge last port": (
        f"{HEAD}  ingress: [{{toPorts: [{{ports: [{{port: '1', endPort: {'9' * 19}}}]}}]}}]\n",
        codes.PORT_BAD,
    ),
    "more than a file may have": (b"# " + b"x" * MAX_FILE_BYTES, codes.YAML_SIZE),
    "many documents": ("---\nkind: X\n" * (load.MAX_OBJECTS + 1), codes.YAML_SIZE),
    "a list of many objects": (
        "kind: List\nitems:\n" + "- {kind: X}\n" * (load.MAX_OBJECTS + 1),
        codes.YAML_SIZE,
    ),
    "a regular expression that grows": (http("((a{100}){10}){10}"), codes.REGEX_BIG),
    "a long regular expression": (http("(a|b)*" * 10_000), codes.REGEX_BIG),
    "one without an end": (http("(" * 4000), codes.REGEX_BAD),
    "many expensive ones": (http(*(f"(.*a.{{400}}x{n})+.*" for n in range(200))), codes.REGEX_BIG),
    "one with a look-around": (http("(?=a)"), codes.REGEX_BAD),
    "a zero byte in a string": (http("x").replace("'x'", '"(\\0"'), codes.REGEX_BAD),
}


@pytest.mark.parametrize(("data", "expected"), CONTENTS.values(), ids=CONTENTS)
def test_contents(node: Node, data: str | bytes, expected: Code) -> None:
    raw = data.encode() if isinstance(data, str) else data
    node.replace(lambda path: path.write_bytes(raw))
    node.is_refused(expected)
    node.heals()


def huge(path: Path) -> None:
    """A hole of 100 MB takes no room."""
    path.write_text(GOOD)
    os.truncate(path, 100 * 1024 * 1024)


def in_a_circle(path: Path) -> None:
    other = path.with_name(".other")
    path.symlink_to(other)
    other.unlink(missing_ok=True)
    other.symlink_to(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


FILES: dict[str, tuple[Callable[[Path], object], Code]] = {
    "100 MB": (huge, codes.YAML_SIZE),
    "a pipe": (os.mkfifo, codes.FILE_NOT_REGULAR),
    "a socket": (listening, codes.FILE_NOT_REGULAR),
    "endless zeroes": (lambda path: path.symlink_to("/dev/zero"), codes.FILE_NOT_REGULAR),
    "nothing for ever": (lambda path: path.symlink_to("/dev/null"), codes.FILE_NOT_REGULAR),
    "a link to itself": (lambda path: path.symlink_to(path), codes.FILE_UNREADABLE),
    "links in a circle": (in_a_circle, codes.FILE_UNREADABLE),
    "a link to nowhere": (lambda path: path.symlink_to("/nowhere/p.yaml"), codes.FILE_UNREADABLE),
    "a link through a file": (lambda path: path.symlink_to("/etc/passwd/p.yaml"), codes.FILE_UNREADABLE),
}


@pytest.mark.parametrize(("make", "expected"), FILES.values(), ids=FILES)
def test_what_is_no_file(node: Node, make: Callable[[Path], object], expected: Code) -> None:
    node.replace(make)
    node.is_refused(expected)
    node.heals()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; without privileges mode bits count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_without_permission(node: Node) -> None:
    node.path.write_text(OTHER.replace("name: other", "name: p"))
    node.path.chmod(0)
    with as_nobody():
        node.is_refused(codes.FILE_UNREADABLE)
    node.path.chmod(0o644)
    assert node.refresh().ok
    assert (node.into_a("foo"), node.into_a("bar")) == ("deny", "allow")


def test_a_folder_without_permission(node: Node) -> None:
    node.folder.chmod(0)
    try:
        with as_nobody():
            found = node.refresh()
            assert not validate([node.folder]).valid
        assert found.stale_files == (str(node.folder),)
        assert (node.into_a("foo"), node.into_a("bar")) == ("allow", "deny")
    finally:
        node.folder.chmod(0o755)
    assert node.refresh().ok


def test_a_folder_inside_without_permission(node: Node) -> None:
    inside = node.folder / "team"
    inside.mkdir(mode=0)
    try:
        with as_nobody():
            found = node.refresh()
        assert found.stale_files == (str(node.folder),)
        assert (node.into_a("foo"), node.into_a("bar")) == ("allow", "deny")
    finally:
        inside.chmod(0o755)
    assert node.refresh().ok


def version(node: Node, name: str, text: str) -> None:
    """As the kubelet writes a ConfigMap: a new folder, and one rename that swaps the link to it."""
    folder = node.folder / name
    folder.mkdir()
    (folder / "q.yaml").write_text(text)
    (node.folder / "..data_tmp").symlink_to(name)
    (node.folder / "..data_tmp").rename(node.folder / "..data")


def test_a_config_map_whose_new_version_is_broken(node: Node) -> None:
    path = node.folder / "q.yaml"
    version(node, "..1", OTHER)
    path.symlink_to("..data/q.yaml")
    assert node.refresh().ok
    assert node.into_a("bar") == "allow"
    version(node, "..2", laughs(9, 12))
    assert node.refresh().stale_files == (str(path),)
    assert node.into_a("bar") == "allow"
    shutil.rmtree(node.folder / "..2")
    assert node.refresh().stale_files == (str(path),)
    version(node, "..3", OTHER.replace("id: bar", "id: far"))
    assert node.refresh().ok
    assert (node.into_a("bar"), node.into_a("far")) == ("deny", "allow")


def test_files_that_were_always_broken_deny(node: Node) -> None:
    broken = node.folder / "broken.yaml"
    for make, _ in FILES.values():
        make(broken)
        found = node.refresh()
        assert found.denying_files == (str(broken),)
        assert node.into_a("foo") == "deny"
        broken.unlink()
        node.refresh()
        assert node.into_a("foo") == "allow"


# Findings are bounded, too


@pytest.mark.parametrize(
    ("text", "most"),
    [
        (HEAD + "".join(f"  key{n}: 1\n" for n in range(3000)), MAX_ERRORS),
        (f"{HEAD}  ingress: [{{fromCIDR: [{'x, ' * 3000}]}}]", MAX_FINDINGS),
        ("---\nkind: X\n" * (load.MAX_FINDINGS + 100), load.MAX_FINDINGS + 1),
        ("---\nkind: X\n" * (load.MAX_FINDINGS + 100) + "---\nx", load.MAX_FINDINGS + 2),
    ],
)
def test_findings_do_not_flood(text: str, most: int) -> None:
    file = parse_file(text.encode(), "p.yaml")
    assert len(file.findings) == most
    assert file.ok == all(summary.valid for summary in file.summaries)


def test_an_error_behind_many_warnings_is_told() -> None:
    headers = "{headers: ['a:b']}, " * (MAX_FINDINGS + 1)
    rules = f"rules: {{http: [{headers} {{path: '('}}]}}"
    text = f"{HEAD}  ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], {rules}}}]}}]"
    file = parse_file(text.encode(), "p.yaml")
    assert not file.ok
    assert not file.documents


def test_long_keys_are_cut() -> None:
    key = "k" * 1_000_000
    for text in (f"{HEAD}  {key}: 1\n", f"{HEAD}  ingress: [{{fromEntities: [{key}]}}]\n", f"kind: {key}\n"):
        (finding,) = parse_file(text.encode(), "p.yaml").findings
        assert len(finding.message) <= MAX_TEXT
        assert len(finding.path) <= MAX_TEXT
