from __future__ import annotations

import pickle
from ipaddress import ip_network
from pathlib import Path

import pytest

from config.settings import Settings, SettingsRefused, load_settings


def test_defaults() -> None:
    settings = load_settings({}, {})
    assert settings.model_dump() == Settings().model_dump()
    assert (settings.http_403_msg, settings.hubble_event_buffer_capacity) == ("Access denied\r\n", 4095)
    assert settings.limits.max_header_bytes == 61440
    assert set(settings.sources.values()) == {"default"}


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "config.d"
    folder.mkdir()
    (folder / "workers").write_text("3\n")
    (folder / "enable-policy").write_text("never\n")
    (folder / "log-format").write_text("json")
    (folder / "..data").mkdir()
    (folder / ".hidden").write_text("x")
    file = tmp_path / "penstock.yaml"
    file.write_text("workers: 4\nenable-policy: always\nlog-format: text\ndebug: true\nlimits:\n  max-headers: 7\n")
    return folder, file


def test_the_stronger_source_wins_and_is_told(places: tuple[Path, Path]) -> None:
    folder, file = places
    environ = {"PENSTOCK_WORKERS": "2", "CILIUM_ENABLE_POLICY": "default", "HOME": "/root"}
    settings = load_settings({"workers": 1, "debug": None}, environ, folder, file)
    assert settings.workers == 1
    assert settings.enable_policy == "default"
    assert settings.log_format == "json"
    assert settings.debug is True
    assert settings.limits.max_headers == 7
    assert {
        key: settings.sources[key] for key in ("workers", "enable-policy", "log-format", "debug", "max-headers")
    } == {
        "workers": "flag --workers",
        "enable-policy": "environment CILIUM_ENABLE_POLICY",
        "log-format": f"config-dir {folder / 'log-format'}",
        "debug": f"file {file}:4",
        "max-headers": f"file {file}:6",
    }
    assert settings.sources["node-name"] == "default"


def test_our_variables_are_stronger_than_ciliums() -> None:
    assert load_settings({}, {"PENSTOCK_DEBUG": "false", "CILIUM_DEBUG": "true"}).debug is False


def test_limits_stand_beside_the_other_settings_everywhere(tmp_path: Path) -> None:
    assert load_settings({"max_headers": 5}, {}).limits.max_headers == 5
    assert load_settings({}, {"PENSTOCK_HEADER_TIMEOUT_S": "2.5"}).limits.header_timeout_s == 2.5
    file = tmp_path / "s.yaml"
    file.write_text("drain-timeout-s: 1\n")
    assert load_settings({}, {}, None, file).limits.drain_timeout_s == 1


def test_addresses_of_services(tmp_path: Path) -> None:
    expected = (ip_network("10.96.0.0/12"), ip_network("fd96::/108"))
    assert load_settings({"service_cidrs": "10.96.0.0/12, fd96::/108"}, {}).service_cidrs == expected
    assert load_settings({}, {"PENSTOCK_SERVICE_CIDRS": "10.96.0.0/12,fd96::/108"}).service_cidrs == expected
    file = tmp_path / "settings.yaml"
    file.write_text("service-cidrs: [10.96.0.0/12, 'fd96::/108']\n", encoding="utf-8")
    assert load_settings({}, {}, config_file=file).service_cidrs == expected


def test_ciliums_name_of_the_policy_folder() -> None:
    assert load_settings({}, {"CILIUM_STATIC_CNP_PATH": "/p"}).policy_dir == Path("/p")
    assert load_settings({"static-cnp-path": "/q"}, {}).policy_dir == Path("/q")


def test_variables_of_others_are_left_alone() -> None:
    settings = load_settings({}, {"CILIUM_SOCK": "/x", "CILIUM_CLI_CONTEXT": "y", "PENSTOCK_SOCK": "/z"})
    assert settings.model_dump() == Settings().model_dump()


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        ({"worker": 1}, {}, 'unknown setting "worker" (flag --worker)'),
        ({}, {"PENSTOCK_WORKER": "1"}, 'unknown setting "worker" (environment PENSTOCK_WORKER)'),
        ({"workers": "many"}, {}, "workers: Input should be a valid integer"),
        ({"workers": -1}, {}, "workers: Input should be greater than or equal to 0 (flag --workers)"),
        ({"enable_policy": "sometimes"}, {}, "enable-policy: Input should be 'default', 'always' or 'never'"),
        ({}, {"PENSTOCK_HEADER_TIMEOUT_S": "nan"}, "header-timeout-s:"),
        ({"service_cidrs": "10.96.0.1/12"}, {}, "service-cidrs: Value error, 10.96.0.1/12 has host bits set (flag"),
        (
            {"service_cidrs": "nonsense"},
            {},
            "service-cidrs: Value error, 'nonsense' does not appear to be an IPv4 or IPv6",
        ),
        ({"max_headers": 0}, {}, "max-headers: Input should be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_told(flags: dict[str, object], environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(flags, environ)
    assert said in str(refused.value)


def test_all_at_once_with_line_and_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("debug: true\nenable-polcy: never\nlimits:\n  max-header: 5\nother: {a: 1}\n")
    with pytest.raises(SettingsRefused) as refused:
        load_settings({}, {}, None, file)
    found = {(finding.line, finding.column, finding.hint) for finding in refused.value.findings}
    assert (2, 1, 'did you mean "enable-policy"?') in found
    assert (4, 3, 'did you mean "max-headers"?') in found
    assert {line for line, _, _ in found} == {2, 4, 5}


@pytest.mark.parametrize("text", ["[]", "a: [", "workers: 1\n---\nworkers: 2\n"])
def test_files_that_are_no_settings(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(SettingsRefused):
        load_settings({}, {}, None, file)


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings({}, {}, tmp_path / "no.d", tmp_path / "no.yaml")
    assert len(refused.value.findings) == 2


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("# nothing\n")
    assert load_settings({}, {}, None, file).model_dump() == Settings().model_dump()


def test_settings_can_be_sent_and_shown() -> None:
    settings = load_settings({"workers": 2}, {})
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert again.sources == settings.sources
    assert settings.model_dump(mode="json")["state_dir"] == "/run/penstock"
