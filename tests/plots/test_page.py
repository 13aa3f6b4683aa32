"""The report as a file; how it looks in a browser is in ``test_report_in_browser``."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sparktune import plots
from sparktune.errors import PlotlyNotAvailable
from sparktune.plots import page
from sparktune.plots.style import LOOKS
from sparktune.plots.table import Row, Table
from sparktune.study.trial import TrialState
from tests.plots_studies import table

pytestmark = pytest.mark.unit


def payload(text: str, name: str = "data") -> str:
    found = re.search(rf'id="{name}">([^<]*)<', text)
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1])).decode("utf-8")


def test_everything_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    text = plots.report(table(40), path, name="iris & <co>")
    assert path.read_text("utf-8") == text
    assert "<h1>iris &amp; &lt;co&gt;</h1>" in text
    assert not re.search(r'(src|href)="(?!#)', text)  # nothing is loaded from elsewhere
    assert "plotly.js v" in payload(text, "plotly")[:200]
    found = json.loads(payload(text))
    assert [picture["name"] for picture in found["pictures"]] == [p.name for p in page.PICTURES]
    assert all(picture["figure"]["data"] for picture in found["pictures"])
    assert len(found["table"]["rows"]) == 40
    assert found["table"]["columns"][:4] == ["trial", "state", "loss", "seconds"]


def test_the_head_tells_counts_and_the_best_parameters() -> None:
    known = table(60)
    text = plots.report(known)
    assert known.best is not None
    assert f"Best parameters: trial {known.best.number}" in text
    for label, value in known.best.params.items():
        assert f"<th>{label}</th><td>{value}</td>" in text
    for state, count in known.counts.items():
        assert f"<b>{count}</b><span>{LOOKS[state].words}</span>" in text
    assert "sparktune.search.tpe.suggest" in text


def test_where_all_failed_the_cause_is_told() -> None:
    rows = [Row(n, TrialState.FAILED, None, {"x": n}, error="ValueError: <bad> x") for n in range(5)]
    text = plots.report(Table(rows))
    assert "The commonest cause (5 of 5): <code>ValueError: &lt;bad&gt; x</code>" in text


def test_any_value_has_a_cell(tmp_path: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    values: list[Any] = [None, True, "a</script>", 1, 2**80, 0.1, math.inf, math.nan, [1, 2], Odd(), "\ud800"]
    rows = [Row(n, TrialState.COMPLETED, -float(n), {"x": value}) for n, value in enumerate(values)]
    text = plots.report(Table(rows), tmp_path / "report.html")
    assert "<td>?</td>" in (tmp_path / "report.html").read_text("utf-8")  # the best one's, which UTF-8 lacks
    cells = [row[4] for row in json.loads(payload(text))["table"]["rows"]]
    assert cells == [None, "True", "a</script>", 1, str(2**80), 0.1, "inf", "nan", "[1, 2]", "Odd", "\ud800"]


def test_5000_trials_weigh_little() -> None:
    assert len(plots.report(table(5000, slots=16))) < 5e6


def test_without_plotly_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    page.compressed_plotly.cache_clear()
    for name in ("plotly", "plotly.offline", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, name, None)
    for draw in (plots.report, plots.any_time, plots.timeline):
        with pytest.raises(PlotlyNotAvailable, match=r"pip install 'sparktune\[plots\]'"):
            draw(table(3))
    assert plots.param_importances(table(30))
