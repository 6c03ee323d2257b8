"""The map `names` and the lock that its writers share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from bpf.errors import MapFull
from bpf.live import live_pairs
from bpf.loader import LoadedObject, Options, load
from bpf.names import MAX_SLOTS, NameSlot, NamesMap, boottime, make_lock, mapped
from tests.bpf import packets as p
from tests.bpf.kernel import POD_A, Kernel
from tests.bpf.states import A4, A6, REMOTE4, WORLD4, WORLD6, state

pytestmark = pytest.mark.bpf

V4, V6 = ip_address(WORLD4).packed, ip_address(WORLD6).packed


@pytest.fixture
def small() -> Iterator[LoadedObject]:
    with load(None, Options(names_entries=4)) as loaded:
        yield loaded


@pytest.fixture
def names(small: LoadedObject) -> Iterator[NamesMap]:
    lock = make_lock()
    yield NamesMap(small.maps["names"], lock)
    os.close(lock)


def test_an_address_is_open_for_every_group_that_opened_it(names: NamesMap) -> None:
    names.open(7, [V4, V6], [11, 12], 100, 1)
    names.open(7, [V4], [12, 13], 90, 1)
    assert names.get(7, V4) == (NameSlot(11, 100), NameSlot(12, 100), NameSlot(13, 90))
    assert names.get(7, V6) == (NameSlot(11, 100), NameSlot(12, 100))
    assert names.get(8, V4) == ()


def test_time_is_only_ever_prolonged_by_opening(names: NamesMap) -> None:
    names.open(7, [V4], [11], 100, 1)
    names.open(7, [V4], [11], 200, 1)
    names.open(7, [V4], [11], 150, 1)
    assert names.get(7, V4) == (NameSlot(11, 200),)


def test_items_are_addresses_of_their_own_family(names: NamesMap) -> None:
    names.open(7, [V4, V6], [11], 100, 1)
    names.open(8, [V4], [12], 5, 1)
    slots = (NameSlot(11, 100),)
    assert sorted(names.items()) == sorted([(7, V4, slots), (7, V6, slots), (8, V4, (NameSlot(12, 5),))])


def test_a_change_sees_what_is_there_and_no_slots_are_no_entry(names: NamesMap) -> None:
    names.open(7, [V4], [11, 12], 100, 1)
    names.change(7, V4, lambda slots: [slot for slot in slots if slot.identity != 11], 1)
    assert names.get(7, V4) == (NameSlot(12, 100),)
    names.change(7, V4, lambda slots: (), 1)
    assert list(names.items()) == []
    names.change(7, V4, lambda slots: (), 1)
    names.change(7, V6, lambda slots: [NameSlot(5, 6)], 1)
    assert names.get(7, V6) == (NameSlot(5, 6),)


def test_a_full_map_is_its_own_error(names: NamesMap) -> None:
    names.open(7, [bytes([192, 0, 2, number]) for number in range(4)], [11], 100, 1)
    with pytest.raises(MapFull):
        names.open(7, [V6], [11], 100, 1)
    names.open(7, [bytes([192, 0, 2, 3])], [12], 100, 1)


def test_more_groups_than_slots_are_refused_until_the_time_of_some_is_over(names: NamesMap) -> None:
    later = boottime() + 1000
    names.open(7, [V4], range(1, MAX_SLOTS), later, 1)
    names.open(7, [V4], [MAX_SLOTS], 1, 1)
    names.open(7, [V4], [77], later, 1)  # in the place of the one whose time is over
    assert {slot.identity for slot in names.get(7, V4)} == {*range(1, MAX_SLOTS), 77}
    with pytest.raises(MapFull):
        names.open(7, [V4], [78], later, 1)
    assert 78 not in {slot.identity for slot in names.get(7, V4)}


_HOLD = """
import fcntl, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_others_exclude_us_for_as_long_as_they_live(small: LoadedObject) -> None:
    lock = make_lock()
    names = NamesMap(small.maps["names"], lock)
    command = [sys.executable, "-c", _HOLD, str(lock)]
    with subprocess.Popen(command, pass_fds=[lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(TimeoutError):
            names.open(7, [V4], [11], 100, 0.05)
        assert names.get(7, V4) == ()
        other.kill()
        other.wait()
    names.open(7, [V4], [11], 100, 1)
    assert names.get(7, V4) == (NameSlot(11, 100),)
    os.close(lock)


def test_the_lock_is_let_go_after_an_error(names: NamesMap, small: LoadedObject) -> None:
    with pytest.raises(ZeroDivisionError):
        names.change(7, V4, lambda slots: [NameSlot(1 // 0, 0)], 1)
    names.open(7, [V4], [11], 100, 0.05)


def test_no_other_error_of_the_lock_is_taken_for_patience() -> None:
    lock = make_lock()
    names = NamesMap(lock, lock)
    os.close(lock)
    with pytest.raises(OSError, match="Bad file descriptor"):
        names.open(7, [V4], [11], 100, 10)


def test_a_pair_lives_while_a_flow_between_its_ends_does(programs: Kernel) -> None:
    programs.forget_flows()
    programs.apply(state())
    a4, a6, world4, world6, remote4 = (mapped(ip_address(text).packed) for text in (A4, A6, WORLD4, WORLD6, REMOTE4))
    asked = {(a4, world4), (a6, world6), (a4, remote4)}
    maps, options = programs.maps, Options()
    assert live_pairs(maps["ct"], asked, options) == set()
    programs.from_pod(p.tcp(A4, 1000, WORLD4, 443), POD_A)
    programs.from_pod(p.udp(A6, 1000, WORLD6, 443), POD_A)
    assert live_pairs(maps["ct"], asked, options) == {(a4, world4), (a6, world6)}
    assert live_pairs(maps["ct"], {(world4, a4)}, options) == {(world4, a4)}
    programs.from_pod(p.tcp(A4, 1000, WORLD4, 443, p.RST), POD_A)
    assert live_pairs(maps["ct"], asked, options) == {(a6, world6)}
    assert live_pairs(maps["ct"], asked, Options(udp_timeout_s=0)) <= {(a6, world6)}


def test_who_closes_before_time_tells_all_processes(small: LoadedObject, names: NamesMap) -> None:
    lock = make_lock()
    one, other = NamesMap(small.maps["names"], lock), NamesMap(small.maps["names"], lock)
    before = other.cuts
    one.cut()
    assert other.cuts == one.cuts != before
    assert names.cuts == 0
    os.close(lock)
