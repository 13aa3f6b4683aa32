"""A study in MLflow's UI: what a person sees there in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import mlflow
import pytest

from tests.plots.chromium import browser, errors, wait_for
from tests.recorded_trials import tune
from tests.tracking.conftest import Server

pytestmark = pytest.mark.system

MLFLOWS_OWN = re.compile(r"users/current|ResizeObserver loop")
"""What MLflow's pages complain of whatever they show."""
TEXT = "document.body.innerText"


class Ui:
    """MLflow's pages of one study."""

    def __init__(self, chromium: Any, uri: str, trials: Any) -> None:
        self.chromium, self.trials, self._uri = chromium, trials, uri

    def open(self, path: str) -> None:
        """Open a page of the experiment."""
        self.chromium.get("about:blank")
        errors(self.chromium)
        self.chromium.get(f"{self._uri}/#/{path}")

    def wait_for_text(self, *texts: str) -> None:
        """Wait until the page shows all of them."""
        for text in texts:
            wait_for(self.chromium, f"{TEXT}.includes(arguments[0])", text)

    def complaints(self) -> list[str]:
        """The page's errors, without those that are there on every page."""
        return [message for message in errors(self.chromium) if not MLFLOWS_OWN.search(message)]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def study(chromium: Any, server_process: Server) -> Any:
    server_process.start()
    mlflow.set_tracking_uri(server_process.uri)
    experiment_id = mlflow.create_experiment("seen in the UI")
    mlflow.set_experiment(experiment_id=experiment_id)
    trials = tune(8)
    trials.experiment_id = experiment_id
    return trials


@pytest.fixture
def ui(chromium: Any, server: Server, study: Any) -> Ui:
    return Ui(chromium, server.uri, study)


def test_the_parent_has_a_name_and_its_children_are_nested(ui: Ui) -> None:
    ui.open(f"experiments/{ui.trials.experiment_id}/runs")
    ui.wait_for_text("a study of the tests", "9 matching runs")
    assert "trial 7" not in ui.chromium.execute_script(f"return {TEXT}")
    wait_for(ui.chromium, "document.querySelector('[role=row] button[class*=expander], [role=row] svg')")
    ui.chromium.execute_script(
        "const row = [...document.querySelectorAll('[role=row]')]"
        ".find(row => row.innerText.includes('a study of the tests'));"
        "row.querySelector('button').click()"
    )
    ui.wait_for_text("trial 0", "trial 7")
    assert ui.complaints() == []


def test_the_best_trial_is_found_by_its_tag(ui: Ui) -> None:
    query = quote("tags.`sparktune.best` = 'true'")
    ui.open(f"experiments/{ui.trials.experiment_id}/runs?searchFilter={query}")
    ui.wait_for_text("2 matching runs", "a study of the tests")  # the parent of a match is shown, too
    assert ui.complaints() == []


def test_the_parents_page_tells_the_result(ui: Ui) -> None:
    ui.open(f"experiments/{ui.trials.experiment_id}/runs/{ui.trials.run_id}")
    best = ui.trials.best_trial
    ui.wait_for_text(
        f"Best: loss {best['result']['loss']:.6g} (trial {best['tid']})", "5 succeeded, 3 failed", "best_x"
    )
    assert ui.complaints() == []


def test_the_report_is_shown_among_the_artifacts(ui: Ui) -> None:
    ui.open(f"experiments/{ui.trials.experiment_id}/runs/{ui.trials.run_id}/artifacts/report.html")
    wait_for(ui.chromium, "document.querySelector('iframe')")
    ui.chromium.switch_to.frame(ui.chromium.find_element("css selector", "iframe"))
    wait_for(ui.chromium, "document.body && document.body.dataset.state !== undefined")
    assert ui.chromium.execute_script("return document.body.dataset.state") == "ready"
    ui.wait_for_text(f"Best parameters: trial {ui.trials.best_trial['tid']}")
    ui.chromium.switch_to.default_content()
    assert ui.complaints() == []


def test_the_counters_are_curves(ui: Ui) -> None:
    ui.open(f"experiments/{ui.trials.experiment_id}/runs/{ui.trials.run_id}/model-metrics")
    ui.wait_for_text("best_trial_loss", "failed_trials_count")
    wait_for(ui.chromium, "document.querySelectorAll('.js-plotly-plot').length > 0")
    assert ui.complaints() == []


def test_children_are_compared(ui: Ui) -> None:
    frame = ui.trials.to_dataframe()
    ids = list(frame[frame["state"] == "completed"]["run_id"])
    runs, experiments = quote(json.dumps(ids)), quote(json.dumps([ui.trials.experiment_id]))
    ui.open(f"compare-runs?runs={runs}&experiments={experiments}")
    ui.wait_for_text(f"Comparing {len(ids)} Runs", "Parallel Coordinates", "trial 1")
    wait_for(ui.chromium, "document.querySelectorAll('.js-plotly-plot').length > 0")
    ui.wait_for_text("loss", "kind")
    assert ui.complaints() == []
