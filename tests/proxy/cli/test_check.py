"""`penstock check` on this machine, whatever it can do."""

from __future__ import annotations

import json

import pytest

from proxy.cli.check import Check
from tests.proxy.cli.conftest import Command


def test_table_and_json_agree(run: Command) -> None:
    table, data = run("check"), run("check", "-o", "json")
    checks = json.loads(data.stdout)
    assert {"kernel", "privileges", "libbpf"} <= {check["name"] for check in checks}
    missing = [check["name"] for check in checks if check["required"] and not check["ok"]]
    assert table.exit_code == data.exit_code == (1 if missing else 0)
    assert len(table.stdout.splitlines()) == len(checks) + 1
    assert all(name in table.stderr for name in missing)


@pytest.mark.parametrize(
    ("name", "ok", "result"),
    [("ring buffer", True, "ok"), ("ring buffer", False, "MISSING"), ("net.ipv4.ip_forward", False, "warning")],
)
def test_results(name: str, ok: bool, result: str) -> None:
    assert Check(name, ok, "").result == result
