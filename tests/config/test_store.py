"""What is in force while files come, break, heal and go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config import codes
from config.policy.resolved import Direction, HttpRule, Snapshot
from config.settings import Settings
from config.store import PolicyStore, Refresh
from tests.config.policy.builders import PODS, World, policy

OPEN = policy("endpointSelector: {matchLabels: {id: a}}\ningress: [{fromEndpoints: [{matchLabels: {id: foo}}]}]")
OPEN_BAR = OPEN.replace("foo", "bar")
BROKEN = OPEN.replace("matchLabels: {id: foo}", "matchLabel: {id: foo}")
NOT_YAML = "a: ["


class Node:
    """A store over two files and a folder, and what is in force."""

    def __init__(self, folder: Path, pods: str = PODS) -> None:
        self.policies = folder / "policies"
        self.policies.mkdir()
        self.endpoints = folder / "endpoints.yaml"
        self.endpoints.write_text(pods)
        self.store = PolicyStore(Settings(policy_dir=self.policies, endpoints_file=self.endpoints))
        self.snapshot = Snapshot(0)

    def write(self, name: str, text: str) -> Path:
        path = self.policies / name
        path.write_text(text)
        return path

    def refresh(self) -> Refresh:
        found = self.store.refresh()
        if found.snapshot is not None:
            assert found.snapshot.revision == self.snapshot.revision + 1
            self.snapshot = found.snapshot
        assert found.revision == self.snapshot.revision
        return found

    def into_a(self, peer: str) -> str:
        return World(self.snapshot).into("a", peer, "80/tcp")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_policy_comes_changes_and_goes(node: Node) -> None:
    node.refresh()
    assert node.into_a("foo") == "allow"
    path = node.write("p.yaml", OPEN_BAR)
    assert node.refresh().ok
    assert (node.into_a("foo"), node.into_a("bar")) == ("deny", "allow")
    node.write("p.yaml", OPEN)
    node.refresh()
    assert (node.into_a("foo"), node.into_a("bar")) == ("allow", "deny")
    path.unlink()
    node.refresh()
    assert node.into_a("bar") == "allow"
    assert node.snapshot.revision == 4


def test_nothing_new_is_no_new_revision(node: Node) -> None:
    node.write("p.yaml", OPEN)
    assert node.refresh().snapshot is not None
    assert node.refresh().snapshot is None
    node.write("p.yaml", OPEN + "# a comment changes nothing\n")
    assert node.refresh().snapshot is None
    assert node.snapshot.revision == 1


@pytest.mark.parametrize("broken", [BROKEN, NOT_YAML, OPEN[:-9], "\ud800"])
def test_a_broken_edit_changes_nothing(node: Node, broken: str) -> None:
    path = node.write("p.yaml", OPEN)
    node.refresh()
    path.write_bytes(broken.encode("utf-8", "surrogatepass"))
    found = node.refresh()
    assert found.snapshot is None
    assert not found.ok
    assert found.stale_files == (str(path),)
    assert found.denying_files == ()
    assert codes.DOC_STALE.id in {finding.code for finding in found.findings}
    assert (node.into_a("foo"), node.into_a("bar")) == ("allow", "deny")


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_a_file_that_became_empty_is_about_to_be_written(node: Node, text: str) -> None:
    path = node.write("p.yaml", OPEN)
    node.refresh()
    path.write_text(text)
    found = node.refresh()
    assert found.snapshot is None
    assert found.stale_files == (str(path),)
    assert [finding.code for finding in found.findings] == [codes.DOC_EMPTIED.id]
    assert node.into_a("bar") == "deny"
    path.write_text(policy("endpointSelector: {matchLabels: {id: foo}}\ningress: [{fromEntities: [world]}]"))
    assert node.refresh().stale_files == ()
    assert node.into_a("bar") == "allow"


def test_a_file_that_always_was_empty_says_nothing(node: Node) -> None:
    node.write("p.yaml", "")
    assert node.refresh().stale_files == ()
    assert node.into_a("bar") == "allow"


def test_a_broken_file_heals(node: Node) -> None:
    node.write("p.yaml", OPEN)
    node.refresh()
    node.write("p.yaml", BROKEN)
    node.refresh()
    node.write("p.yaml", OPEN_BAR)
    found = node.refresh()
    assert found.ok
    assert found.stale_files == ()
    assert node.into_a("bar") == "allow"


def test_back_to_the_last_good_text_is_no_change(node: Node) -> None:
    for text in (OPEN, BROKEN, OPEN):
        node.write("p.yaml", text)
        found = node.refresh()
    assert found.ok
    assert found.snapshot is None


def test_other_files_are_not_held_up_by_a_broken_one(node: Node) -> None:
    node.write("broken.yaml", OPEN)
    node.refresh()
    node.write("broken.yaml", BROKEN)
    node.write("q.yaml", OPEN_BAR.replace("name: p", "name: q"))
    assert node.refresh().snapshot is not None
    assert (node.into_a("foo"), node.into_a("bar")) == ("allow", "allow")


def test_every_refresh_repeats_what_is_wrong(node: Node) -> None:
    node.write("p.yaml", BROKEN)
    assert node.refresh().findings == node.refresh().findings != ()


# Files that were never good


def test_a_cold_start_with_a_broken_document_denies_its_subjects(node: Node) -> None:
    path = node.write("p.yaml", BROKEN)
    found = node.refresh()
    assert found.denying_files == (str(path),)
    assert found.stale_files == ()
    assert node.into_a("foo") == "deny"
    asked = World(node.snapshot)
    assert asked.out("a", "foo", "80/tcp") == "deny"
    assert asked.into("foo", "a", "80/tcp") == "allow"
    assert codes.DOC_LOCKED.id in {finding.code for finding in found.findings}


def test_what_other_policies_allow_stays_allowed(node: Node) -> None:
    node.write("p.yaml", BROKEN)
    node.write("q.yaml", OPEN_BAR.replace("name: p", "name: q"))
    node.refresh()
    assert (node.into_a("foo"), node.into_a("bar")) == ("deny", "allow")


def test_unless_the_broken_document_has_deny_rules(node: Node) -> None:
    node.write("p.yaml", policy("endpointSelector: {matchLabels: {id: a}}\ningressDeny: [{fromCIDR: [x]}]"))
    node.write("q.yaml", OPEN_BAR.replace("name: p", "name: q"))
    node.refresh()
    assert (node.into_a("foo"), node.into_a("bar"), node.into_a("host")) == ("deny", "deny", "deny")


def test_a_file_that_is_not_yaml_may_be_about_anybody(node: Node) -> None:
    node.write("p.yaml", NOT_YAML)
    node.refresh()
    assert node.into_a("foo") == World(node.snapshot).into("other/foo", "a", "80/tcp") == "deny"


def test_good_documents_beside_a_broken_one_are_in_force(node: Node) -> None:
    node.write("p.yaml", OPEN_BAR.replace("name: p", "name: q") + "---\n" + BROKEN)
    node.refresh()
    assert (node.into_a("foo"), node.into_a("bar")) == ("deny", "allow")


def test_it_ends_when_the_file_heals(node: Node) -> None:
    node.write("p.yaml", NOT_YAML)
    node.refresh()
    node.write("p.yaml", OPEN)
    assert node.refresh().denying_files == ()
    assert node.into_a("foo") == World(node.snapshot).into("foo", "a", "80/tcp") == "allow"


# Folders


def test_a_folder_that_cannot_be_listed_keeps_what_was_known(node: Node) -> None:
    node.write("p.yaml", OPEN)
    node.refresh()
    node.policies.rename(node.policies.with_name("away"))
    found = node.refresh()
    assert not found.ok
    assert found.snapshot is None
    assert (found.stale_files, found.denying_files) == ((str(node.policies),), ())
    assert node.into_a("bar") == "deny"
    node.policies.with_name("away").rename(node.policies)
    assert node.refresh().ok


def test_a_folder_that_never_could_be_listed_denies(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.policies.rmdir()
    found = node.refresh()
    assert not found.ok
    assert (found.stale_files, found.denying_files) == ((), (str(node.policies),))
    assert node.into_a("foo") == "deny"
    node.policies.mkdir()
    assert node.refresh().ok
    assert node.into_a("foo") == "allow"


def test_no_folder_at_all_is_no_policy(tmp_path: Path) -> None:
    found = PolicyStore(Settings()).refresh()
    assert found.ok
    assert found.snapshot is not None
    assert not found.snapshot.policies


def test_one_file_instead_of_a_folder(tmp_path: Path) -> None:
    node = Node(tmp_path)
    path = node.write("p.yaml", OPEN)
    node.store = PolicyStore(Settings(policy_dir=path, endpoints_file=node.endpoints))
    node.refresh()
    assert node.into_a("bar") == "deny"


def test_a_config_map_is_swapped(node: Node) -> None:
    def version(name: str, text: str) -> None:
        folder = node.policies / name
        folder.mkdir()
        (folder / "p.yaml").write_text(text)
        (node.policies / "..tmp").symlink_to(name)
        (node.policies / "..tmp").rename(node.policies / "..data")

    version("..2026_1", OPEN)
    (node.policies / "p.yaml").symlink_to("..data/p.yaml")
    node.refresh()
    assert node.into_a("bar") == "deny"
    version("..2026_2", OPEN_BAR)
    assert node.refresh().snapshot is not None
    assert node.into_a("bar") == "allow"
    assert len(node.store._files) == 1


def test_a_link_to_nowhere_is_not_a_file_that_went_away(node: Node) -> None:
    path = node.write("p.yaml", OPEN)
    node.refresh()
    path.unlink()
    path.symlink_to("nowhere.yaml")
    found = node.refresh()
    assert found.stale_files == (str(path),)
    assert node.into_a("bar") == "deny"


def test_a_file_that_may_not_be_read_any_more(node: Node) -> None:
    """Root may read everything, so something that is no file stands in for the missing permission."""
    path = node.write("p.yaml", OPEN)
    node.refresh()
    path.unlink()
    os.mkfifo(path)
    found = node.refresh()
    assert found.stale_files == (str(path),)
    assert node.into_a("bar") == "deny"


# One object in two files


def test_the_first_file_has_it(node: Node) -> None:
    node.write("a.yaml", OPEN)
    node.write("b.yaml", OPEN_BAR)
    found = node.refresh()
    assert [finding.code for finding in found.findings] == [codes.DOC_DUPLICATE.id]
    assert (node.into_a("foo"), node.into_a("bar")) == ("allow", "deny")
    (node.policies / "a.yaml").unlink()
    assert node.refresh().ok
    assert (node.into_a("foo"), node.into_a("bar")) == ("deny", "allow")


# Endpoints


def test_a_broken_endpoints_file_keeps_the_endpoints(node: Node) -> None:
    node.refresh()
    before = node.snapshot
    node.endpoints.write_text(PODS.replace("10.9.0.2", "10.9.0.x"))
    found = node.refresh()
    assert found.snapshot is None
    assert found.stale_files == (str(node.endpoints),)
    assert not found.ok
    assert node.snapshot is before
    node.endpoints.unlink()
    assert not node.refresh().ok
    assert node.snapshot is before
    node.endpoints.write_text(PODS.replace("10.9.0.2", "10.9.0.22"))
    assert node.refresh().snapshot is not None
    assert node.refresh().ok


def test_endpoints_that_come_get_policies(tmp_path: Path) -> None:
    node = Node(tmp_path, pods="endpoints: []")
    node.write("p.yaml", OPEN)
    node.refresh()
    assert not node.snapshot.policies
    node.endpoints.write_text(PODS)
    node.refresh()
    assert node.into_a("bar") == "deny"


@pytest.mark.parametrize("text", ["endpoints: [", None])
def test_there_is_no_snapshot_before_endpoints_are_known(tmp_path: Path, text: str | None) -> None:
    """An empty one would take away what an earlier agent left in the kernel."""
    node = Node(tmp_path, pods=text or "")
    if text is None:
        node.endpoints.unlink()
    found = node.refresh()
    assert (found.snapshot, found.endpoints_known, found.ok) == (None, False, False)
    node.endpoints.write_text(PODS)
    found = node.refresh()
    assert found.endpoints_known
    assert node.into_a("foo") == "allow"


def test_a_secret_comes_changes_and_goes(tmp_path: Path) -> None:
    node = Node(tmp_path)
    secret = tmp_path / "secrets" / "default" / "token"
    secret.parent.mkdir(parents=True)
    node.store = PolicyStore(
        Settings(policy_dir=node.policies, endpoints_file=node.endpoints, secrets_dir=tmp_path / "secrets")
    )
    match = "headerMatches: [{name: x, secret: {name: token}}]"
    ports = f'[{{ports: [{{port: "80", protocol: TCP}}], rules: {{http: [{{{match}}}]}}}}]'
    path = node.write(
        "p.yaml", policy(f"endpointSelector: {{matchLabels: {{id: a}}}}\ningress: [{{toPorts: {ports}}}]")
    )

    def in_force(only: list[Path] | None = None) -> tuple[str, bool]:
        found = node.store.refresh(only)
        node.snapshot = found.snapshot or node.snapshot
        assert "s3cret" not in repr((node.snapshot, found))
        (rule,) = (rule for rule in World(node.snapshot).policy("a").direction(Direction.INGRESS).rules if rule.l7)
        (item,) = rule.l7 or ()
        assert isinstance(item, HttpRule)
        return item.header_matches[0].value, item.header_matches[0].is_known

    assert in_force() == ("", False)
    secret.write_text("s3cret\n")
    assert in_force([secret]) == ("s3cret", True)
    secret.write_text("s3cret-2")
    assert in_force([path]) == ("s3cret-2", True)
    secret.write_bytes(b"s3cret\0")
    assert in_force() == ("", False)
    found = node.store.refresh()
    assert [finding.code for finding in found.findings] == [codes.SECRET_VALUE.id, codes.SECRET_MISSING.id]
    assert (found.findings[1].file, found.findings[1].line) == (str(path), 6)
    secret.unlink()
    assert in_force() == ("", False)
    assert [finding.code for finding in node.store.refresh().findings] == [codes.SECRET_MISSING.id]
    assert node.store.refresh().ok
