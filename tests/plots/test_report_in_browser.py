"""The report in a real browser: all is drawn, nothing is fetched, nothing complains, it is quick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparktune import plots
from sparktune.comparison.result import Comparison
from sparktune.plots import page
from tests.comparison.test_result import curves
from tests.plots.chromium import browser, errors, wait_for
from tests.plots_studies import table

pytestmark = pytest.mark.system

LONGEST_MS = 30_000
"""A generous guard for machines under load; a quiet one of 2 cores takes less than a second."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def opened(chromium: Any, path: Path) -> float:
    """Open a page; milliseconds until it is ready."""
    errors(chromium)
    chromium.get(path.as_uri())
    wait_for(chromium, "document.body.dataset.state !== undefined")
    assert chromium.execute_script("return document.body.dataset.state") == "ready"
    return float(chromium.execute_script("return performance.now()"))


def texts(chromium: Any, selector: str) -> list[str]:
    return [found.text for found in chromium.find_elements("css selector", selector)]


@pytest.mark.parametrize("n", [1, 40, 5000])
def test_the_report(chromium: Any, tmp_path: Path, n: int) -> None:
    known = table(n, slots=4 if n < 1000 else 16)
    plots.report(known, tmp_path / "report.html", name=f"{n} trials")
    assert (tmp_path / "report.html").stat().st_size < 15e6
    assert opened(chromium, tmp_path / "report.html") < LONGEST_MS

    assert texts(chromium, "h1") == [f"{n} trials"]
    assert known.best is not None
    assert texts(chromium, "caption") == [f"Best parameters: trial {known.best.number}"]
    places = chromium.find_elements("css selector", ".picture .plot")
    assert len(places) == len(page.PICTURES)
    for place in places:
        chromium.execute_script("arguments[0].scrollIntoView()", place)
        wait_for(chromium, 'arguments[0].dataset.state === "drawn"', place)
    titles = texts(chromium, ".plot .gtitle")
    assert len(titles) == len(page.PICTURES)
    assert titles[0] == "Best value so far"
    assert not texts(chromium, ".problem")
    assert titles[-1].startswith("Timeline: ")
    n_points = chromium.execute_script("return document.querySelectorAll('#history .point').length")
    assert n_points >= 2 * min(n, 1500)
    n_bars = chromium.execute_script("return document.querySelectorAll('#timeline .bars .point').length")
    assert (n_bars == n) if n <= 40 else (n_bars > 500)
    fetched = chromium.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [name for name in fetched if not name.startswith(("blob:", "data:"))] == []
    assert errors(chromium) == []


def test_a_picture_that_cannot_be_drawn_says_so(chromium: Any, tmp_path: Path) -> None:
    wrong = {"data": [{"x": [0.0, 5e-324], "y": [1, 2]}], "layout": {"xaxis": {"range": [0, 5e-324]}}}
    (tmp_path / "wrong.html").write_text(page.self_contained(wrong, "wrong"), "utf-8")
    opened(chromium, tmp_path / "wrong.html")
    place = chromium.find_element("css selector", ".plot")
    wait_for(chromium, 'arguments[0].dataset.state === "broken"', place)
    assert texts(chromium, ".plot .problem")[0].startswith("This picture cannot be drawn: ")
    assert errors(chromium) == []


def test_the_table_is_sorted_searched_and_paged(chromium: Any, tmp_path: Path) -> None:
    known = table(120)
    plots.report(known, tmp_path / "report.html")
    opened(chromium, tmp_path / "report.html")
    assert texts(chromium, "#trials .where") == ["1 to 50 of 120"]
    headers = {
        found.text.split()[0]: found for found in chromium.find_elements("css selector", "#trials th button")
    }
    assert known.best is not None

    def first_row() -> list[str]:
        return texts(chromium, "#trials tbody tr:first-child td")

    chromium.execute_script("arguments[0].click()", headers["loss"])
    assert first_row()[0] == str(known.best.number)
    assert texts(chromium, "#trials tr.best td:first-child") == [str(known.best.number)]
    chromium.execute_script("arguments[0].click()", headers["loss"])  # the other way; those without come last
    losses = [row.loss for row in known.with_loss if row.loss is not None]
    assert float(first_row()[2]) == pytest.approx(max(losses), rel=1e-5)
    back, following = chromium.find_elements("css selector", "#trials .bar button")
    for _ in range(2):
        chromium.execute_script("arguments[0].click()", following)
    assert texts(chromium, "#trials .where") == ["101 to 120 of 120"]
    assert not following.is_enabled()
    assert back.is_enabled()
    search = chromium.find_element("css selector", "#trials input")
    search.send_keys("singular")
    n_failed = sum(row.error is not None for row in known.rows)
    assert texts(chromium, "#trials .where") == [f"1 to {n_failed} of {n_failed}"]
    search.send_keys(" no such text")
    assert texts(chromium, "#trials .where") == ["none"]
    assert errors(chromium) == []


def test_hover_shows_the_trial(chromium: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    known = table(40)
    plots.report(known, tmp_path / "report.html")
    opened(chromium, tmp_path / "report.html")
    wait_for(chromium, "document.querySelector('#history .plot').dataset.state === 'drawn'")
    star = chromium.find_elements("css selector", "#history .scatterlayer .trace:last-child .points path")
    place = star[-1] if star else chromium.find_elements("css selector", "#history .points path")[-1]
    ActionChains(chromium).move_to_element(place).perform()
    wait_for(chromium, "document.querySelectorAll('#history .hovertext').length > 0")
    assert "trial " in " ".join(texts(chromium, "#history .hovertext"))


def test_a_comparison_needs_no_network(chromium: Any, tmp_path: Path) -> None:
    result = Comparison(curves(tpe=[[2.0, 1.0], [4.0, 1.0]], rand=[[3.0, 2.0], [5.0, 2.0]]))
    (tmp_path / "comparison.html").write_text(result.to_html(), "utf-8")
    opened(chromium, tmp_path / "comparison.html")
    wait_for(chromium, "document.querySelector('.plot').dataset.state === 'drawn'")
    assert texts(chromium, ".legendtext")[:2] == ["tpe", "rand"]
    assert errors(chromium) == []
