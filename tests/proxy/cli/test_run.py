"""`penstock run`: how flags become settings. The agent itself is tried in namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings
from proxy.cli.run import run as command
from tests.proxy.cli.conftest import Command

NOT_SETTINGS = {"config_file", "config_dir", "extra", "help"}


def test_every_flag_is_a_setting() -> None:
    flags = {parameter.name for parameter in command.params} - NOT_SETTINGS
    assert flags <= set(Settings.model_fields)


def test_every_important_setting_is_a_flag() -> None:
    flags = {parameter.name for parameter in command.params}
    others = {name for name in set(Settings.model_fields) - flags if not name.startswith("bpf_")}
    assert others == {
        "limits",
        "rescan_interval_s",
        "tofqdns_endpoint_max_ip_per_hostname",
        "tofqdns_idle_connection_grace_period",
        "tofqdns_max_deferred_connection_deletes",
        "tofqdns_protected_cidrs",
        "tofqdns_proxy_response_max_delay",
    }


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--set", "drain-timeot-s=5"], 1, 'did you mean "drain-timeout-s"?'),
        (["--set", "header-timeout-s=-1"], 1, "header-timeout-s: Input should be greater than 0"),
        (["--set", "oops"], 2, "expected KEY=VALUE"),
        (["--enable-policy", "sometimes"], 2, "'sometimes' is not one of"),
        (["--workers", "-1"], 2, "--workers"),
        (["--config", "nothing.yaml"], 1, "nothing.yaml"),
    ],
)
def test_wrong_settings(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], exit_code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("run", *arguments)
    assert result.exit_code == exit_code, result.output
    assert message in result.stderr


def test_an_unknown_key_of_a_file_is_located(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "penstock.yaml"
    path.write_text("debug: true\npolicy-dirr: /tmp\n")
    result = run("run", "--config", str(path))
    assert result.exit_code == 1
    assert f"{path}:2:1: error[" in result.stderr
    assert 'did you mean "policy-dir"?' in result.stderr


def test_flags_reach_the_agent(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy import app

    seen: list[Settings] = []

    def fake_run(settings: Settings) -> int:
        seen.append(settings)
        return 3

    monkeypatch.setattr(app, "run", fake_run)
    monkeypatch.setenv("PENSTOCK_WORKERS", "5")
    monkeypatch.setenv("PENSTOCK_NODE_NAME", "from-environment")
    result = run("run", "--policy-dir", str(tmp_path), "--workers", "2", "--debug", "--set", "drain-timeout-s=5")
    assert result.exit_code == 3
    (settings,) = seen
    assert (settings.policy_dir, settings.workers, settings.debug) == (tmp_path, 2, True)
    assert (settings.node_name, settings.limits.drain_timeout_s) == ("from-environment", 5.0)
    assert settings.sources["workers"].startswith("flag")
