"""Who floods again and again waits; nobody else does."""

from __future__ import annotations

from proxy.worker.floods import MAX_CLIENTS, TOLERATED, FloodingClients

SECOND = 1_000_000_000


def flooded(clients: FloodingClients, client: str, times: int, now: int = 1) -> None:
    for _ in range(times):
        clients.note(client, "control_frames", now)


def test_some_floods_are_tolerated_and_more_are_not() -> None:
    clients = FloodingClients(10 * SECOND)
    flooded(clients, "192.0.2.1", TOLERATED)
    assert not clients.is_out("192.0.2.1", 2)
    flooded(clients, "192.0.2.1", 1)
    assert clients.is_out("192.0.2.1", 2)
    assert not clients.is_out("192.0.2.2", 2)


def test_it_is_over_after_a_while() -> None:
    clients = FloodingClients(10 * SECOND)
    flooded(clients, "192.0.2.1", TOLERATED + 1)
    assert clients.is_out("192.0.2.1", 10 * SECOND)
    assert not clients.is_out("192.0.2.1", 10 * SECOND + 2)
    flooded(clients, "192.0.2.1", 1, 20 * SECOND)
    assert not clients.is_out("192.0.2.1", 20 * SECOND), "it begins anew"


def test_floods_that_are_far_apart_do_not_add_up() -> None:
    clients = FloodingClients(SECOND)
    for number in range(100):
        flooded(clients, "192.0.2.1", 1, number * 2 * SECOND)
    assert not clients.is_out("192.0.2.1", 198 * SECOND)


def test_a_bound_of_one_message_is_no_flood() -> None:
    clients = FloodingClients(SECOND)
    for _ in range(100):
        clients.note("192.0.2.1", "head_bytes", 1)
        clients.note("192.0.2.1", "", 1)
    assert not clients.is_out("192.0.2.1", 1)


def test_it_can_be_switched_off_and_is_bounded() -> None:
    off = FloodingClients(0)
    flooded(off, "192.0.2.1", 100)
    assert not off.is_out("192.0.2.1", 1)
    clients = FloodingClients(SECOND)
    for number in range(MAX_CLIENTS + 10):
        flooded(clients, str(number), 1)
    assert len(clients._clients) == MAX_CLIENTS
