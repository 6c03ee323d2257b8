"""What benchmarks write: the form of the file is a promise to whoever reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.catalog import CATALOG
from benchmarks.report import Ratio, Report, Row, compare, unit_of

RPS = Ratio("requests_per_s", "rps")
CPU = Ratio("cpu_us_per_request", "cpu")


def rows() -> list[Row]:
    return [
        Row("none", "keep-alive-1", {"requests_per_s": 50000.0}),
        Row("penstock", "keep-alive-1", {"requests_per_s": 30000.12345, "cpu_us_per_request": 15.0}),
        Row("envoy", "keep-alive-1", {"requests_per_s": 10000.0, "cpu_us_per_request": 60.0}),
        Row("penstock", "denied-64", {"requests_per_s": 40000.0, "cpu_us_per_request": 5.0}),
        Row("envoy", "denied-64", {"requests_per_s": 20000.0, "cpu_us_per_request": 20.0}),
    ]


def report() -> Report:
    ratios = compare(rows(), "penstock", ("envoy", "none"), (RPS, CPU))
    return Report("http1", rows(), ratios, ("a note",))


def test_ratios_are_named_by_case_pair_and_metric() -> None:
    assert compare(rows(), "penstock", ("envoy", "none"), (RPS, CPU)) == {
        "keep-alive-1 penstock/envoy rps": pytest.approx(3.0, rel=1e-4),
        "keep-alive-1 penstock/envoy cpu": 0.25,
        "keep-alive-1 penstock/none rps": pytest.approx(0.6, rel=1e-4),
        "denied-64 penstock/envoy rps": 2.0,
        "denied-64 penstock/envoy cpu": 0.25,
    }


def test_no_ratio_to_a_figure_that_is_missing_or_zero() -> None:
    measured = [
        Row("penstock", "x", {"requests_per_s": 1.0, "cpu_us_per_request": 1.0}),
        Row("envoy", "x", {"requests_per_s": 0.0}),
    ]
    assert compare(measured, "penstock", ("envoy", "haproxy"), (RPS, CPU)) == {}


def test_the_file_has_name_rows_and_ratios_and_nothing_else(tmp_path: Path) -> None:
    path = report().write(tmp_path / "out")
    assert path.name == "http1.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    assert list(written) == ["name", "rows", "ratios"]
    assert written["name"] == "http1"
    assert written["rows"][0] == {"subject": "none", "case": "keep-alive-1", "requests_per_s": 50000.0}
    assert written["rows"][1]["requests_per_s"] == 30000.123
    assert written["ratios"]["denied-64 penstock/envoy rps"] == 2.0
    assert all(isinstance(value, (int, float)) for value in written["ratios"].values())


def test_an_older_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    (tmp_path / "http1.json").write_text("{}", encoding="utf-8")
    report().write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["http1.json"]
    assert json.loads((tmp_path / "http1.json").read_text(encoding="utf-8"))["rows"]


@pytest.mark.parametrize(
    ("metric", "unit"),
    [("requests_per_s", "/s"), ("p50_us", "µs"), ("cpu_us_per_request", "µs"), ("peak_rss_mib", "MiB")],
)
def test_a_metric_ends_in_its_unit(metric: str, unit: str) -> None:
    assert unit_of(metric) == unit


@pytest.mark.parametrize("metric", ["rps", "p50", "_us", "latency_p99"])
def test_a_metric_without_a_unit_is_refused(metric: str) -> None:
    with pytest.raises(ValueError, match="does not end in a unit"):
        Row("penstock", "keep-alive-1", {metric: 1.0})


def test_the_table_shows_every_figure_under_its_title() -> None:
    lines = report().text().splitlines()
    header = [cell.strip() for cell in lines[0].split("  ") if cell.strip()]
    assert header == ["case", "subject", "requests/s", "cpu µs/request"]
    shown = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert ["keep-alive-1", "none", "50,000", "-"] in shown
    assert ["envoy", "10,000", "60.0"] in shown
    assert ["denied-64", "penstock", "40,000", "5.0"] in shown
    assert ["keep-alive-1", "penstock/envoy", "3.00 x", "0.25 x"] in shown
    assert ["penstock/none", "0.60 x", "-"] in shown
    assert lines[-1] == "  a note"


def test_columns_are_aligned() -> None:
    lines = report().text().splitlines()
    ends = [line.index("requests/s") + len("requests/s") for line in lines[:1]]
    for line, figure in ((lines[2], "50,000"), (lines[3], "30,000")):
        assert [line.index(figure) + len(figure)] == ends


def test_the_catalog_names_are_distinct() -> None:
    names = [benchmark.name for benchmark in CATALOG]
    assert len(names) == len(set(names))
