"""Addresses to listen on."""

from __future__ import annotations

import pytest

from config.listening import split_address
from config.settings import SettingsRefused, load_settings


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [(":9965", "", 9965), ("127.0.0.1:9965", "127.0.0.1", 9965), ("[::1]:80", "::1", 80)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["9965", ":0", ":65536", ":٣", "::1:9965", "[127.0.0.1]:80", "node-1:9965", "127.0.0.1", "[::1]"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        split_address(text)


def test_the_setting() -> None:
    assert load_settings({}, {}).hubble_metrics_server == ""
    assert load_settings({}, {"CILIUM_HUBBLE_METRICS_SERVER": ":9965"}).hubble_metrics_server == ":9965"
    with pytest.raises(SettingsRefused, match="hubble-metrics-server: Value error, '9965' is no address with a port"):
        load_settings({"hubble_metrics_server": "9965"}, {})
