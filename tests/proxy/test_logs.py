"""The JSON form of the log."""

from __future__ import annotations

import json
import logging
import sys

from proxy.logs import JsonFormatter


def test_one_object_per_record() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        record = logging.LogRecord("penstock", logging.ERROR, __file__, 1, "a\nb %s", ("c",), sys.exc_info())
    text = JsonFormatter().format(record)
    entry = json.loads(text)
    assert "\n" not in text
    assert (entry["level"], entry["logger"], entry["msg"]) == ("error", "penstock", "a\nb c")
    assert "ValueError: boom" in entry["error"]
    assert entry["time"].endswith("+00:00")
