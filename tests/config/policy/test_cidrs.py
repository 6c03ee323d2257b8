from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from config.identity import Reserved
from config.policy.cidrs import CidrTable
from config.policy.rules import CidrBlock

# Few bits that differ, so that prefixes nest often.
_V4 = st.builds(
    lambda bits, length: IPv4Network((bits << 24, length), strict=False), st.integers(0, 255), st.integers(0, 8)
)
_V6 = st.builds(
    lambda bits, length: IPv6Network((bits << 120, length), strict=False), st.integers(0, 255), st.integers(0, 8)
)
_NETWORKS = _V4 | _V6


def inside(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


@given(st.sets(_NETWORKS, max_size=12), _NETWORKS, st.lists(_NETWORKS, max_size=2))
def test_a_block_selects_what_lies_inside_it_but_not_in_its_exceptions(
    prefixes: set[IPv4Network | IPv6Network], asked: IPv4Network | IPv6Network, excepts: list[IPv4Network | IPv6Network]
) -> None:
    prefixes = {prefix for prefix in prefixes if prefix.prefixlen}
    table = CidrTable(prefixes)
    worlds = {int(Reserved.WORLD_IPV4), int(Reserved.WORLD_IPV6)}
    found = table.select(CidrBlock(asked, tuple(excepts))) - worlds
    expected = {
        number
        for prefix, number in table.numbers.items()
        if inside(prefix, asked) and not any(inside(prefix, outer) for outer in excepts)
    }
    assert found == expected


def test_a_whole_family_includes_what_no_prefix_covers() -> None:
    table = CidrTable([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
    assert table.within(ip_network("0.0.0.0/0")) == {table.numbers[ip_network("10.0.0.0/8")], Reserved.WORLD_IPV4}
    assert table.within(ip_network("::/0")) == {table.numbers[ip_network("2001:db8::/32")], Reserved.WORLD_IPV6}
    assert Reserved.WORLD_IPV4 not in table.within(ip_network("0.0.0.0/1"))
