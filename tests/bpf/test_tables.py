"""The tables follow any sequence of states, whatever they know from the last one and wherever a change broke off."""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Callable, Iterator
from ctypes import c_uint32
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpf.addresses import Address, Network, is_mapped, pack_address, pack_network
from bpf.errors import MapError, MapFull
from bpf.libbpf import library
from bpf.loader import Options, load
from bpf.maps import BpfMap, PolicyMaps
from bpf.structs import Address as RawAddress
from bpf.structs import Endpoint, Interface, IpcacheKey
from bpf.tables import DesiredState, EndpointFlag, LocalEndpoint, Policy, Row, RowKey, RowVerdict, Tables, encode_rows
from tests.bpf import packets as p
from tests.bpf.kernel import Kernel
from tests.bpf.states import A4, ALLOW, B4, ENFORCE_INGRESS, ID_A, INGRESS, IPCACHE, WORLD4, row, rows, state

pytestmark = pytest.mark.bpf

ADDRESSES: list[Address] = [ip_address(text) for text in ("10.1.0.1", "10.1.0.2", "fd01::1", "fd01::2")]
NETWORKS: list[Network] = [
    ip_network(text)
    for text in ("0.0.0.0/0", "10.1.0.0/16", "192.0.2.0/24", "fd01::/16", "::/8", "::ffff:10.1.0.0/112")
]

Contents = tuple[dict[bytes, tuple[bytes, frozenset[tuple[bytes, bytes]]]], dict[int, int], dict[bytes, int], int]


def policies() -> st.SearchStrategy[Policy]:
    keys = st.builds(RowKey, st.integers(0, 2), st.integers(0, 1), st.just(p.TCP), st.integers(0, 3), st.just(16))
    values = st.builds(Row, st.sampled_from(RowVerdict), st.integers(1, 3), st.integers(0, 2))
    return st.dictionaries(keys, values, max_size=3)


@st.composite
def sequences(draw: st.DrawFn) -> list[DesiredState]:
    """States that share objects with those before them, have equal ones, or others."""
    shelf = draw(st.lists(policies(), min_size=1, max_size=3))
    prefixes = draw(
        st.lists(st.dictionaries(st.sampled_from(NETWORKS), st.integers(20, 22), max_size=4), min_size=1, max_size=3)
    )
    chosen = st.sampled_from(shelf)
    endpoints = st.builds(
        LocalEndpoint,
        st.integers(1, 3),
        st.integers(20, 22),
        st.sampled_from([EndpointFlag(0), EndpointFlag(3)]),
        st.integers(0, 3),
        chosen | chosen.map(dict) | policies(),
    )
    ipcaches = st.sampled_from(prefixes)
    states = st.builds(
        DesiredState,
        st.dictionaries(st.sampled_from(ADDRESSES), endpoints, max_size=4),
        ipcaches | ipcaches.map(dict),
    )
    return draw(st.lists(states, min_size=2, max_size=5))


def wanted(one: DesiredState) -> Contents:
    """Address → endpoint without its policy's number and the rows of that; interfaces; prefixes; number of policies."""
    endpoints = {}
    interfaces = {}
    for address, local in one.endpoints.items():
        value = Endpoint(local.id, local.identity, 0, local.ifindex, int(local.flags))
        endpoints[pack_address(address)] = bytes(value), frozenset(encode_rows(local.policy).items())
        if local.ifindex:
            interfaces[local.ifindex] = local.id
    ipcache = {ip_network("0.0.0.0/0"): 9, **one.ipcache}
    prefixes = {
        length.to_bytes(4, "little") + packed: identity
        for network, identity in ipcache.items()
        if not is_mapped(network)
        for length, packed in [pack_network(network)]
    }
    return endpoints, interfaces, prefixes, len({rows for _, rows in endpoints.values()})


def held(kernel: Kernel) -> Contents:
    """The same, out of the maps."""
    maps = kernel.maps
    tries = PolicyMaps(maps["policy"], 8)
    endpoints = {}
    for key, value in BpfMap("endpoints", maps["endpoints"], RawAddress, Endpoint).items():
        rows = frozenset(tries.read(value.policy_id).items())
        value.policy_id = 0
        endpoints[bytes(key)] = bytes(value), rows
    interfaces = BpfMap("endpoints_by_if", maps["endpoints_by_if"], c_uint32, Interface)
    prefixes = BpfMap("ipcache", maps["ipcache"], IpcacheKey, c_uint32)
    return (
        endpoints,
        {key.value: value.id for key, value in interfaces.items()},
        {bytes(key): value.value for key, value in prefixes.items()},
        len(tries.ids()),
    )


@pytest.fixture
def programs(programs: Kernel) -> Iterator[Kernel]:
    """Tests here write to the maps by other ways than the kernel's own tables."""
    yield programs
    programs.tables = Tables(programs.maps, 1024)


@pytest.fixture(params=["batches", "an old kernel"])
def kind_of_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "batches":
        for name in ("bpf_map_update_batch", "bpf_map_delete_batch"):
            monkeypatch.setattr(library(), name, lambda *_: -errno.EINVAL)


@pytest.mark.usefixtures("kind_of_kernel")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=sequences())
def test_every_state_of_a_sequence_is_reached(programs: Kernel, states: list[DesiredState]) -> None:
    tables = Tables(programs.maps, 8)
    for one in states:
        before, epoch = held(programs), tables.read_config().epoch
        changes = tables.apply(one)
        assert held(programs) == wanted(one)
        assert changes.any is (before != wanted(one))
        assert (changes.epoch, tables.read_config().epoch) == (epoch + changes.any,) * 2
        assert tables.interfaces() == wanted(one)[1]
        assert not Tables(programs.maps, 8).apply(one).any, "who reads everything back finds nothing to do"


@contextlib.contextmanager
def breaking_off(after: int) -> Iterator[None]:
    """Writes to maps fail after so many of them."""
    left = after

    def counted(write: Callable[..., object]) -> Callable[..., object]:
        def attempt(*arguments: object) -> object:
            nonlocal left
            if left == 0:
                raise MapError("any", "update", 1, "broken off")
            left -= 1
            return write(*arguments)

        return attempt

    with pytest.MonkeyPatch.context() as patch:
        for kind, names in ((BpfMap, ("set", "delete", "set_all", "delete_all")), (PolicyMaps, ("write", "delete"))):
            for name in names:
                patch.setattr(kind, name, counted(getattr(kind, name)))
        yield


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=sequences(), after=st.integers(0, 12), again=st.booleans(), restarted=st.booleans())
def test_a_change_that_broke_off_is_made_up_for(
    programs: Kernel, states: list[DesiredState], after: int, again: bool, restarted: bool
) -> None:
    first, second, *others = states
    third = second if again or not others else others[0]
    tables = Tables(programs.maps, 8)
    epoch = tables.apply(first).epoch
    before = held(programs)
    broken = False
    with breaking_off(after):
        try:
            tables.apply(second)
        except MapError:
            broken = True
    written = held(programs) != before
    if restarted:
        tables = Tables(programs.maps, 8)
    last = tables.apply(third)
    assert held(programs) == wanted(third)
    assert tables.read_config().changing == 0
    if broken and written:
        assert last.epoch > epoch, "flows are judged again, however much of it was there before"


def test_a_change_that_broke_off_before_its_epoch_is_seen_by_the_flows(programs: Kernel) -> None:
    programs.apply(state(b=rows(ALLOW, row(ID_A, INGRESS)), b_flags=ENFORCE_INGRESS))
    assert programs.from_pod(p.tcp(A4, 1000, B4, 80)).verdict == 0
    shut = state(b_flags=ENFORCE_INGRESS)
    with pytest.raises(MapError, match="broken off"), breaking_off(after=3):  # the mark and two addresses are written
        programs.apply(shut)
    assert programs.from_pod(p.tcp(A4, 1000, B4, 80, p.ACK)).verdict == 0
    Tables(programs.maps, 8).apply(shut)
    assert programs.from_pod(p.tcp(A4, 1000, B4, 80, p.ACK)).verdict < 0


@pytest.mark.parametrize("prefix", ["::/8", "::/80", "::fffe:0:0/95", "::ffff:0:0/96", "::ffff:192.0.2.0/120"])
def test_an_ipv6_prefix_is_never_about_ipv4(programs: Kernel, prefix: str) -> None:
    open_to_it = state(b=rows(ALLOW, row(55, INGRESS)), b_flags=ENFORCE_INGRESS)
    programs.apply(replace(open_to_it, ipcache={**IPCACHE, ip_network(prefix): 55}))
    (event,) = programs.to_pod(p.tcp(WORLD4, 1000, B4, 80)).events[:1]
    assert (event.source_identity, event.verdict < 0) == (9, True)


@pytest.mark.usefixtures("kind_of_kernel")
def test_a_map_that_is_full_says_so(programs: Kernel) -> None:
    with load(None, Options(endpoints=2)) as loaded:
        endpoints = BpfMap("endpoints", loaded.maps["endpoints"], RawAddress, Endpoint)
        keys = [number.to_bytes(16, "big") for number in range(3)]
        with pytest.raises(MapFull, match="map endpoints: update: E2BIG"):
            endpoints.set_all(dict.fromkeys(keys, bytes(Endpoint(id=1))))
        endpoints.delete_all([*keys, bytes(16)])
        assert list(endpoints.items()) == []


def test_many_policies_are_placed_at_once(programs: Kernel) -> None:
    """More than the process has descriptors for."""
    policies = {number: encode_rows(rows(ALLOW, row(number, INGRESS))) for number in range(1, 300)}
    programs.apply(DesiredState())
    maps = PolicyMaps(programs.maps["policy"], 8)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        maps.write(policies)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {number: maps.read(number) for number in maps.ids()} == policies
    maps.delete(policies)
    assert maps.ids() == []
