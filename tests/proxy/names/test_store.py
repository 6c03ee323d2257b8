"""The store of names: what opens, what stays, what goes. Ids are those of the table of Cilium's cases."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.datapath import MapError, NameSlot
from proxy.names.store import StoreLimits
from proxy.worker.openings import GRACE_S
from tests.proxy.names.fake import ANY, EP, START, Scene, matcher, packed


def limits(**changed: float) -> StoreLimits:
    return StoreLimits(**changed)  # type: ignore[arg-type]


def z01() -> None:
    """Z01."""
    scene = Scene(limits(min_ttl=60))
    scene.look_up("test.com", "1.1.1.1", ttl=3)
    assert scene.after(3).check() == set()
    assert scene.current() == {"test.com": {"1.1.1.1"}}
    assert scene.after(67).check() == {"1.1.1.1"}
    assert (scene.known(), scene.open()) == ({}, set())


def z02() -> None:
    """Z02: An entry of Cilium is there in the second in which it expires; ours is open beyond it anyway."""
    scene = Scene()
    scene.look_up("test.com", "1.1.1.1", ttl=10)
    assert scene.after(9).current() == {"test.com": {"1.1.1.1"}}
    assert scene.after(2).current() == {}
    assert scene.check() == set()
    assert scene.open() == {"1.1.1.1"}
    assert scene.after(GRACE_S).check() == {"1.1.1.1"}
    assert scene.open() == set()


def z03() -> None:
    """Z03."""
    scene = Scene(limits(addresses_per_name=5))
    scene.look_up("other.com", "9.9.9.9", ttl=1)
    for number in range(1, 7):
        scene.look_up("test.com", f"1.1.1.{number}", ttl=number)
    assert scene.current() == {"test.com": {f"1.1.1.{n}" for n in range(2, 7)}, "other.com": {"9.9.9.9"}}
    assert scene.check() == {"1.1.1.1"}
    assert scene.open() == {f"1.1.1.{n}" for n in range(2, 7)} | {"9.9.9.9"}


def z03_alive() -> None:
    """One too many is a zombie like any other: a connection keeps it."""
    scene = Scene(limits(addresses_per_name=1))
    scene.look_up("test.com", "1.1.1.1", ttl=10)
    scene.look_up("test.com", "1.1.1.2", ttl=20)
    scene.check("1.1.1.1")
    assert scene.current() == {"test.com": {"1.1.1.2"}}
    assert scene.open() == {"1.1.1.1", "1.1.1.2"}
    scene.check()
    assert scene.open() == {"1.1.1.2"}


def z04() -> None:
    """Z04."""
    scene = Scene(limits(addresses_per_name=0))
    for number in range(1, 6):
        scene.look_up("test.com", f"1.1.1.{number}", ttl=number)
    assert scene.check() == set()
    assert len(scene.current()["test.com"]) == 5


def expired(limits: StoreLimits | None = None, **addresses: str) -> Scene:
    """A second after each other, in this order, names `a_com="1.1.1.1 2.2.2.2"` come to be due."""
    scene = Scene(limits)
    for name, text in addresses.items():
        scene.look_up(name.replace("_", "."), *text.split(), ttl=0)
        scene.after(1)
    return scene.after(GRACE_S)


def z07() -> None:
    """Z07."""
    scene = expired(test_com="1.1.1.1", somethingelse_com="2.2.2.2")
    scene.check("1.1.1.1", "2.2.2.2")
    scene.look_up("anotherthing.com", "1.1.1.1", ttl=0)
    scene.after(GRACE_S).check("1.1.1.1", "2.2.2.2")
    assert scene.known() == {
        "test.com": {"1.1.1.1"},
        "anotherthing.com": {"1.1.1.1"},
        "somethingelse.com": {"2.2.2.2"},
    }
    assert scene.store.names_of(EP, "1.1.1.1") == ("anotherthing.com", "test.com")


def z08() -> None:
    """Z08: Nothing dies before connections were looked at. One look is enough: ours sees all of them."""
    scene = expired(test_com="1.1.1.1")
    assert scene.store.due(scene.now) == {(EP, packed("1.1.1.1"))}
    assert scene.open() == {"1.1.1.1"}


def z09() -> None:
    """Z09."""
    scene = expired(test_com="1.1.1.1", somethingelse_com="2.2.2.2")
    assert scene.check("2.2.2.2") == {"1.1.1.1", "2.2.2.2"}
    assert scene.known() == {"somethingelse.com": {"2.2.2.2"}}
    assert scene.open() == {"2.2.2.2"}
    assert scene.check("2.2.2.2") == {"2.2.2.2"}
    assert scene.store.counts().gc_deletions_total == 1


def z10() -> None:
    """Z10."""
    scene = expired(test_com="1.1.1.1")
    for _ in range(3):
        assert scene.after(5).check("1.1.1.1") == {"1.1.1.1"}
    assert scene.open() == {"1.1.1.1"}
    assert scene.store.counts().alive_zombie_connections == {EP: 1}


def z11() -> None:
    """Z11."""
    scene = expired(test_com="1.1.1.1")
    scene.check()
    scene.look_up("onemorething.com", "1.1.1.1")
    assert scene.known() == {"onemorething.com": {"1.1.1.1"}}
    assert scene.open() == {"1.1.1.1"}


def z12() -> None:
    """Z12."""
    scene = Scene(limits(addresses_per_name=1))
    scene.look_up("somethingelse.com", "2.2.2.2", ttl=0)
    scene.look_up("test.com", "2.2.2.2", ttl=0)
    scene.look_up("test.com", "1.1.1.1", ttl=0)
    scene.look_up("anothertest.com", "3.3.3.3", ttl=0)
    scene.after(GRACE_S).check("1.1.1.1", "2.2.2.2", "3.3.3.3")
    assert scene.known() == {
        "somethingelse.com": {"2.2.2.2"},
        "test.com": {"2.2.2.2"},
        "anothertest.com": {"3.3.3.3"},
    }
    assert scene.store.has_cut


def z13() -> None:
    """Z13."""
    scene = expired(limits(addresses_per_name=3), test_com="1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4")
    scene.check("1.1.1.1", "1.1.1.2", "1.1.1.3")
    assert scene.open() == {"1.1.1.1", "1.1.1.2", "1.1.1.3"}


def z14() -> None:
    """Z14."""
    scene = expired(limits(zombies=2), test_com="1.1.1.1", somethingelse_com="2.2.2.2", onemorething_com="3.3.3.3")
    scene.check("1.1.1.1", "2.2.2.2", "3.3.3.3")
    assert scene.open() == {"2.2.2.2", "3.3.3.3"}
    assert scene.store.counters["limits.tofqdns_max_deferred_connection_deletes"] == 1


def z15() -> None:
    """Z15: Held for its grace only, the newest goes before those with connections."""
    scene = expired(
        limits(zombies=2, idle_s=100), test_com="1.1.1.1", somethingelse_com="2.2.2.2", onemorething_com="3.3.3.3"
    )
    scene.check("1.1.1.1", "2.2.2.2")
    assert scene.open() == {"1.1.1.1", "2.2.2.2"}


def z16() -> None:
    """Z16."""
    scene = expired(test_com="1.1.1.1", anothertest_com="1.1.1.1", somethingelse_com="2.2.2.2")
    scene.check("1.1.1.1", "2.2.2.2")
    assert scene.store.clean("test.com", None, scene.now) == 1
    assert scene.known() == {"anothertest.com": {"1.1.1.1"}, "somethingelse.com": {"2.2.2.2"}}
    assert scene.open() == {"1.1.1.1", "2.2.2.2"}
    assert scene.store.clean("anothertest.com", EP, scene.now) == 1
    assert scene.known() == {"somethingelse.com": {"2.2.2.2"}}
    assert scene.open() == {"2.2.2.2"}
    assert scene.store.counts().gc_deletions_total == 0


def z17() -> None:
    """Z17."""
    scene = expired(somethingelse_com="2.2.2.2")
    assert scene.store.clean("blarg.com", None, scene.now) == 0
    assert scene.store.clean("somethingelse.com", EP + 1, scene.now) == 0
    assert scene.open() == {"2.2.2.2"}


def z18() -> None:
    """Z18."""
    scene = Scene()
    scene.look_up("test.com", "1.1.1.1", "1.1.1.2", ttl=3)
    scene.look_up("test.com", "1.1.1.3", ttl=5)
    assert scene.after(4 + GRACE_S).check("1.1.1.1", "1.1.1.2") == {"1.1.1.1", "1.1.1.2"}
    assert scene.known() == {"test.com": {"1.1.1.1", "1.1.1.2", "1.1.1.3"}}
    assert scene.after(4).check("1.1.1.1", "1.1.1.2") == {"1.1.1.1", "1.1.1.2", "1.1.1.3"}
    assert scene.open() == {"1.1.1.1", "1.1.1.2"}


def z21() -> None:
    """Z21."""
    scene = Scene(limits(addresses_per_name=5))
    scene.look_up("s3.example.com", "1.1.1.1", ttl=0)
    scene.after(GRACE_S).check("1.1.1.1")
    fresh = [f"2.2.2.{number}" for number in range(1, 6)]
    scene.look_up("s3.example.com", *fresh, ttl=0)
    assert scene.open() == {"1.1.1.1", *fresh}
    scene.after(GRACE_S).check("1.1.1.1", *fresh)
    assert scene.open() == set(fresh)


def z23() -> None:
    """Z23."""
    scene = Scene(matching=matcher(g11="cilium.io", g12="*cilium.io.", g13="github.com"))
    for number, name in enumerate(("cilium.io", "awesomecilium.io", "github.com", "nomatch.local"), 1):
        scene.look_up(name, f"1.1.1.{number}")
    assert [scene.map.groups(f"1.1.1.{number}") for number in range(1, 5)] == [{11, 12}, {12}, {13}, set()]
    assert scene.known()["nomatch.local"] == {"1.1.1.4"}


def z24() -> None:
    """Z24."""
    scene = Scene()
    scene.look_up("cilium.io", "1.2.3.4", ttl=100)
    scene.look_up("cilium.io", "1.2.3.4", ttl=101)
    scene.look_up("cilium.io", "1.2.3.4", ttl=1)
    (item,) = scene.store.entries()
    assert item.lease == (START + 101, 101)


CASES = [z01, z02, z03, z03_alive, z04, z07, z08, z09, z10, z11, z12, z13, z14, z15, z16, z17, z18, z21, z23, z24]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__).upper())
def test_cilium(case: Callable[[], None]) -> None:
    case()


def test_an_answer_just_under_way_keeps_its_opening() -> None:
    scene = expired(test_com="1.1.1.1")
    scene.write("test.com", ["1.1.1.1"], 60)  # a worker has written, but its report has not come
    scene.check()
    assert scene.open() == {"1.1.1.1"}
    scene.store.learn(EP, "test.com", [packed("1.1.1.1")], 60, scene.now)
    assert scene.after(60).check() == set()
    assert scene.after(GRACE_S).check() == {"1.1.1.1"}
    assert scene.open() == set()


def test_what_no_report_follows_goes_as_well() -> None:
    scene = expired(test_com="1.1.1.1")
    scene.write("test.com", ["1.1.1.1"], 60)
    scene.check()
    assert (scene.known(), scene.open()) == ({}, {"1.1.1.1"})
    scene.after(60 + GRACE_S).check()
    assert scene.open() == set()


def test_looked_up_between_question_and_answer() -> None:
    scene = expired(test_com="1.1.1.1")
    due = scene.store.due(scene.now)
    scene.look_up("test.com", "1.1.1.1")
    scene.store.settle(due, set(), scene.now)
    assert scene.current() == {"test.com": {"1.1.1.1"}}
    assert scene.open() == {"1.1.1.1"}


def test_idle_grace() -> None:
    scene = expired(limits(idle_s=10), test_com="1.1.1.1")
    scene.check("1.1.1.1")
    scene.after(9).check()
    assert scene.open() == {"1.1.1.1"}
    scene.after(1).check()
    assert scene.open() == set()


def test_a_name_that_nothing_selects_is_known_but_opens_nothing() -> None:
    scene = Scene(matching=matcher(g11="a.com"))
    scene.look_up("b.com", "1.1.1.1", ttl=1)
    assert scene.store.names_of(EP, "1.1.1.1") == ("b.com",)
    assert scene.open() == set()
    assert scene.after(1 + GRACE_S).check() == set()
    assert scene.known() == {}


def test_names_of_an_address() -> None:
    scene = Scene()
    scene.look_up("B.com.", "1.1.1.1", "2001:db8::1")
    scene.look_up("a.com", "1.1.1.1")
    assert scene.store.names_of(EP, "1.1.1.1") == ("a.com", "b.com")
    assert scene.store.names_of(EP, "2001:db8::1") == ("b.com",)
    assert scene.store.names_of(EP + 1, "1.1.1.1") == ()
    assert scene.store.names_of(EP, "none") == ()


class TestPolicyChanges:
    def test_a_group_that_is_new_gets_what_is_known(self) -> None:
        scene = Scene(matching=matcher(g11="a.com"))
        scene.look_up("a.com", "1.1.1.1")
        scene.look_up("b.com", "1.1.1.2")
        assert scene.policy(matcher(g12="*.com"))
        assert (scene.map.groups("1.1.1.1"), scene.map.groups("1.1.1.2")) == ({12}, {12})

    def test_both_groups_are_open_until_the_kernel_has_the_policy(self) -> None:
        scene = Scene(matching=matcher(g11="a.com"))
        scene.look_up("a.com", "1.1.1.1")
        assert scene.store.assign(EP, matcher(g12="a.com"))
        scene.store.prepare(EP, scene.now)
        assert scene.map.groups("1.1.1.1") == {11, 12}
        # A worker with the new policy writes for that only; the kernel still asks for the old group.
        scene.map.open(EP, [packed("1.1.1.2")], [12], scene.now + 65, 1)
        scene.store.learn(EP, "a.com", [packed("1.1.1.2")], 60, scene.now)
        assert scene.map.groups("1.1.1.2") == {11, 12}
        assert scene.store.withdraw(EP, scene.now)
        assert (scene.map.groups("1.1.1.1"), scene.map.groups("1.1.1.2")) == ({12}, {12})
        assert not scene.store.withdraw(EP, scene.now)

    def test_what_stays_selected_stays_open(self) -> None:
        scene = Scene(matching=matcher(g11="a.com"))
        scene.look_up("a.com", "1.1.1.1")
        assert not scene.policy(matcher(g11="a.com", g12="b.com"))
        assert scene.map.groups("1.1.1.1") == {11}

    def test_a_zombie_gets_the_new_group(self) -> None:
        scene = Scene(matching=matcher(g11="a.com"))
        scene.look_up("a.com", "1.1.1.1", ttl=0)
        scene.after(GRACE_S).check("1.1.1.1")
        scene.policy(matcher(g12="a.com"))
        assert scene.map.groups("1.1.1.1") == {12}
        scene.check()
        assert scene.open() == set()

    def test_an_endpoint_that_is_gone(self) -> None:
        scene = Scene()
        scene.look_up("a.com", "1.1.1.1")
        scene.store.forget(EP)
        assert (scene.open(), scene.known()) == (set(), {})
        scene.store.learn(EP, "a.com", [packed("1.1.1.1")], 60, scene.now)
        assert scene.known() == {}
        assert scene.after(100).check() == set()


class TestBounds:
    def test_names_that_nothing_selects_go_first(self) -> None:
        scene = Scene(limits(names=4), matching=matcher(g11="*.keep"))
        scene.look_up("a.keep", "1.1.1.1", ttl=1)
        for number in range(2, 6):
            scene.look_up(f"{number}.com", f"1.1.1.{number}", ttl=100 + number)
        assert set(scene.known()) == {"a.keep", "3.com", "4.com", "5.com"}
        assert not scene.store.has_cut

    def test_then_those_that_expire_first(self) -> None:
        scene = Scene(limits(names=2))
        for number in (3, 1, 2):
            scene.look_up(f"{number}.com", f"1.1.1.{number}", ttl=number)
        assert set(scene.known()) == {"2.com", "3.com"}
        assert scene.open() == {"1.1.1.2", "1.1.1.3"}
        assert scene.store.has_cut

    def test_addresses(self) -> None:
        scene = Scene(limits(addresses=16))
        scene.look_up("a.com", *(f"1.1.1.{number}" for number in range(15)))
        scene.look_up("b.com", "2.2.2.2", ttl=0)
        scene.after(GRACE_S).check("2.2.2.2")
        scene.look_up("c.com", "3.3.3.3")
        assert len(scene.open()) == 15
        assert "2.2.2.2" not in scene.open()
        assert scene.store.counters["limits.dns_max_addresses"] == 2

    def test_per_endpoint(self) -> None:
        scene = Scene(limits(names=1))
        scene.policy(ANY, EP + 1)
        scene.look_up("a.com", "1.1.1.1")
        scene.look_up("b.com", "1.1.1.2", endpoint=EP + 1)
        assert (scene.known(), scene.known(EP + 1)) == ({"a.com": {"1.1.1.1"}}, {"b.com": {"1.1.1.2"}})


class TestClean:
    def test_all(self) -> None:
        scene = Scene()
        scene.look_up("a.com", "1.1.1.1")
        scene.map.open(EP, [packed("2.2.2.2")], [11], scene.now + 50, 1)
        scene.store.adopt(scene.map.items(), scene.now)
        assert scene.store.clean(None, None, scene.now) == 1
        assert scene.open() == set()
        assert scene.store.has_cut

    def test_a_report_that_comes_afterwards_opens_again(self) -> None:
        scene = Scene()
        scene.look_up("a.com", "1.1.1.1")
        scene.store.clean(None, None, scene.now)
        scene.store.learn(EP, "a.com", [packed("1.1.1.1")], 60, scene.now)
        assert scene.open() == {"1.1.1.1"}

    def test_a_glob(self) -> None:
        scene = Scene()
        for number, name in enumerate(("a.com", "b.com", "a.b.com")):
            scene.look_up(name, f"1.1.1.{number}")
        assert scene.store.clean("*.com", EP, scene.now) == 2
        assert set(scene.known()) == {"a.b.com"}


class TestAdopting:
    def test_what_nobody_knows_lives_until_its_time_and_its_connections_are_over(self) -> None:
        scene = Scene()
        scene.map.open(EP, [packed("1.1.1.1")], [11], scene.now + 10, 1)
        scene.store.adopt(scene.map.items(), scene.now)
        assert scene.after(9).check() == set()
        assert scene.after(1).check("1.1.1.1") == {"1.1.1.1"}
        assert scene.open() == {"1.1.1.1"}
        scene.check()
        assert scene.open() == set()

    def test_groups_and_endpoints_that_are_gone(self) -> None:
        scene = Scene()
        scene.map.open(EP, [packed("1.1.1.1")], [11, 99], scene.now + 10, 1)
        scene.map.open(EP + 1, [packed("1.1.1.1")], [11], scene.now + 10, 1)
        scene.store.adopt(scene.map.items(), scene.now)
        assert scene.map.groups("1.1.1.1") == {11}
        assert scene.open(EP + 1) == set()

    def test_a_policy_that_selects_it_no_more(self) -> None:
        scene = Scene()
        scene.map.open(EP, [packed("1.1.1.1")], [11], scene.now + 10, 1)
        scene.store.adopt(scene.map.items(), scene.now)
        assert scene.policy(matcher(g12="*"))
        assert scene.open() == set()

    def test_a_report_that_comes_later_takes_over(self) -> None:
        scene = Scene()
        scene.write("a.com", ["1.1.1.1"], 60)
        scene.store.adopt(scene.map.items(), scene.now)
        scene.store.learn(EP, "a.com", [packed("1.1.1.1")], 60, scene.now)
        assert scene.store.clean("a.com", None, scene.now) == 1
        assert scene.open() == set()

    def test_a_report_that_was_lost(self) -> None:
        scene = Scene()
        scene.look_up("a.com", "1.1.1.1", ttl=10)
        scene.after(5).write("a.com", ["1.1.1.1"], 60)
        scene.store.adopt(scene.map.items(), scene.now)
        scene.after(10 + GRACE_S).check()
        assert scene.open() == {"1.1.1.1"}
        scene.after(60).check()
        assert scene.open() == set()

    def test_what_is_known_is_left_alone(self) -> None:
        scene = Scene()
        scene.look_up("a.com", "1.1.1.1", ttl=10)
        scene.store.adopt(scene.map.items(), scene.now)
        scene.store.clean("a.com", None, scene.now)
        assert scene.open() == set()


@pytest.mark.parametrize("error", [MapError("names", "update", 12, "ENOMEM"), TimeoutError("locked")])
def test_what_fails_is_tried_again(error: Exception) -> None:
    scene = expired(test_com="1.1.1.1")
    scene.map.error = error
    scene.check()
    assert (scene.known(), scene.open()) == ({}, {"1.1.1.1"})
    assert scene.store.counters["names.failed"] == 1
    scene.map.error = None
    assert scene.check() == {"1.1.1.1"}
    assert scene.open() == set()


def test_counts() -> None:
    scene = Scene()
    scene.policy(ANY, 8)
    scene.look_up("a.com", "1.1.1.1", "1.1.1.2", ttl=0)
    scene.look_up("b.com", "1.1.1.2")
    scene.after(GRACE_S).check("1.1.1.1")
    counts = scene.store.counts()
    assert counts.active_names == {EP: 2, 8: 0}
    assert counts.active_ips == {EP: 2, 8: 0}
    assert counts.alive_zombie_connections == {EP: 1, 8: 0}
    assert counts.gc_deletions_total == 0


@pytest.mark.parametrize("is_by_policy", [False, True])
def test_what_was_over_while_the_address_was_closed_stays_over(is_by_policy: bool) -> None:
    """Another name opens the address, by a lookup or by a policy; then there is a policy for the old name, too."""
    scene = Scene(matching=matcher())
    scene.look_up("old.test", "1.1.1.1", ttl=0)
    scene.after(GRACE_S)
    if is_by_policy:
        scene.look_up("new.test", "1.1.1.1")
        scene.policy(matcher(g11="new.test"))
    else:
        scene.policy(matcher(g11="new.test"))
        scene.look_up("new.test", "1.1.1.1")
    scene.policy(matcher(g11="new.test", g12="old.test"))
    assert {slot.identity for slot in scene.map.get(EP, packed("1.1.1.1"))} == {11}


# -- against a model ---------------------------------------------------------------------------------------------------

NAMES = ("a.com", "b.com", "c.org", "x.c.org")
ADDRESSES = ("10.9.0.1", "10.9.0.2", "2001:db8::3")
POLICIES = (
    matcher(g11="a.com"),
    matcher(g11="a.com", g12="*.com"),
    matcher(g12="*.com", g13="**.org a.com"),
    matcher(),
)
ENDPOINTS = (EP, EP + 1)


class Model(RuleBasedStateMachine):
    """A slot is open if and only if a name that is not over, or on whose address a connection lives, selects it."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(matching=POLICIES[0])
        self.scene.policy(POLICIES[1], EP + 1)
        self.leases: dict[tuple[int, str, str], int] = {}

    @rule(
        endpoint=st.sampled_from(ENDPOINTS),
        name=st.sampled_from(NAMES),
        addresses=st.sets(st.sampled_from(ADDRESSES), min_size=1),
        ttl=st.integers(0, 30),
    )
    def look_up(self, endpoint: int, name: str, addresses: set[str], ttl: int) -> None:
        self.scene.look_up(name, *addresses, ttl=ttl, endpoint=endpoint)
        for address in addresses:
            if not self._is_open(endpoint, address):
                self._drop_over(endpoint, {address})
            key = (endpoint, name, address)
            self.leases[key] = max(self.scene.now + ttl + GRACE_S, self.leases.get(key, 0))

    @rule(seconds=st.integers(0, 20))
    def wait(self, seconds: int) -> None:
        self.scene.after(seconds)

    @rule(live=st.sets(st.tuples(st.sampled_from(ENDPOINTS), st.sampled_from(ADDRESSES))))
    def check(self, live: set[tuple[int, str]]) -> None:
        store, now = self.scene.store, self.scene.now
        due = store.due(now)
        store.settle(due, {(endpoint, packed(address)) for endpoint, address in live}, now)
        store.trim(now)
        # What nothing selects has nothing that could be kept open.
        self.leases = {
            key: until
            for key, until in self.leases.items()
            if until > now or ((key[0], key[2]) in live and self._is_open(key[0], key[2]))
        }

    def _is_open(self, endpoint: int, address: str) -> bool:
        return any(
            self.scene.matchers[endpoint].groups(name)
            for owner, name, other in self.leases
            if (owner, other) == (endpoint, address)
        )

    @rule(endpoint=st.sampled_from(ENDPOINTS), policy=st.sampled_from(POLICIES))
    def change_policy(self, endpoint: int, policy: object) -> None:
        closed = {address for address in ADDRESSES if not self._is_open(endpoint, address)}
        self.scene.policy(policy, endpoint)  # type: ignore[arg-type]
        self._drop_over(endpoint, closed)

    def _drop_over(self, endpoint: int, closed: set[str]) -> None:
        """Time was up, nothing kept it open: it is over, looked at or not."""
        self.leases = {
            key: until
            for key, until in self.leases.items()
            if key[0] != endpoint or until > self.scene.now or key[2] not in closed
        }

    @rule(endpoint=st.sampled_from((*ENDPOINTS, None)), pattern=st.sampled_from((None, "a.com", "*.com", "**.org")))
    def clean(self, endpoint: int | None, pattern: str | None) -> None:
        ends = {"a.com": ("a.com",), "*.com": ("a.com", "b.com"), "**.org": ("c.org", "x.c.org"), None: NAMES}[pattern]
        self.scene.store.clean(pattern, endpoint, self.scene.now)
        self.leases = {
            key: until for key, until in self.leases.items() if not (key[1] in ends and endpoint in (None, key[0]))
        }

    @precondition(lambda self: self.scene.known())
    @rule()
    def sweep(self) -> None:
        self.scene.store.adopt(self.scene.map.items(), self.scene.now)

    @invariant()
    def open_is_what_a_name_selects(self) -> None:
        wanted = {
            (endpoint, address, group)
            for endpoint, name, address in self.leases
            for group in self.scene.matchers[endpoint].groups(name)
        }
        found = {
            (endpoint, str(ip_address(address)), group)
            for (endpoint, address), slots in self.scene.map.entries.items()
            for group in slots
        }
        assert found == wanted


Model.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestModel = Model.TestCase


def test_slots_are_what_the_map_says() -> None:
    """The stand-in is a map like the real one."""
    scene = Scene()
    scene.look_up("a.com", "1.1.1.1", ttl=60)
    assert scene.map.get(EP, packed("1.1.1.1")) == (NameSlot(11, START + 60 + GRACE_S),)
