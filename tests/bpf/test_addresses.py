"""Addresses and prefixes in the maps' form."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from bpf.addresses import pack_address, pack_network, unpack_address, unpack_network


@pytest.mark.parametrize("text", ["10.0.0.1", "255.255.255.255", "0.0.0.0", "fd00::1", "::", "::1"])
def test_addresses_come_back(text: str) -> None:
    assert unpack_address(pack_address(ip_address(text))) == ip_address(text)


def test_ipv4_is_mapped() -> None:
    assert pack_address(ip_address("10.1.2.3")) == bytes(10) + b"\xff\xff\x0a\x01\x02\x03"


@pytest.mark.parametrize(
    ("text", "prefix"), [("10.0.0.0/8", 104), ("0.0.0.0/0", 96), ("10.0.0.1/32", 128), ("::/0", 0), ("fd00::/64", 64)]
)
def test_prefixes_come_back(text: str, prefix: int) -> None:
    network = ip_network(text)
    assert pack_network(network)[0] == prefix
    assert unpack_network(*pack_network(network)) == network
