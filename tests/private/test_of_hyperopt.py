"""Without one of hyperopt's private names a study runs as well, and says once what is different."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hyperopt import pyll

from sparktune import Searcher, SimulatedTrials, Trials, fmin, grid, hp, rand, sobol, tpe
from sparktune.private import of_hyperopt, presence

pytestmark = pytest.mark.unit

SPACE = {"x": hp.uniform("x", -1, 1), "kind": hp.randint("kind", 3)}


def loss(point: Any) -> float:
    if point["kind"] == 0:
        raise ValueError("kind 0 fails")
    return float(point["x"] ** 2)


def study(algo: Any, n: int | None = 12, space: Any = SPACE, **options: Any) -> Any:
    trials = options.pop("trials", None) or SimulatedTrials()
    fmin(options.pop("fn", loss), space, algo, n, trials=trials, rstate=1, show_progressbar=False, **options)
    return trials


def everything(folder: Path) -> dict[str, Any]:
    """What studies give that use all of the names."""
    sizes: list[int] = []

    def looks_on(trials: Any, *_: Any) -> tuple[bool, list[Any]]:
        sizes.append(len(trials.trials))
        return False, []

    points = [{"x": 0.5, "kind": 1}]
    file = folder / "study.pkl"
    study(tpe.suggest, 6, trials_save_file=file)
    resumed = study(tpe.suggest, 12, trials_save_file=file, early_stop_fn=looks_on)
    whole = study(grid.suggest, None, {"kind": hp.choice("kind", [1, 2, 3])}, fn=lambda point: point["kind"])
    searcher = Searcher(SPACE, algo=rand.suggest, seed=0)
    asked = searcher.ask(3)
    for candidate in asked:
        searcher.tell(candidate, candidate.params["x"])
    plain = study(tpe.suggest, 5, trials=Trials(), fn=lambda point: point["x"], points_to_evaluate=points)
    return {
        "trials": len(resumed.to_dataframe()),
        "ended": resumed.count_total_trials(),
        "failed": resumed.count_failed_trials(),
        "best": resumed.best_trial["result"]["loss"] == min(v for v in resumed.losses() if v is not None),
        "looked_on": len(sizes) > 0,
        "grid": sorted(whole.losses()),
        "sobol": len(study(sobol.suggest)),
        "searched": [candidate.id for candidate in asked],
        "plain": len(plain.trials),
    }


@pytest.mark.parametrize("name", ["_dynamic_trials", "_trials", "_ids"])
def test_studies_run_without_a_part_of_trials(
    name: str, without: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    wanted = everything(tmp_path / "before")
    caplog.clear()
    without(name)
    assert everything(tmp_path) == wanted
    [said] = [message for message in caplog.messages if "does not offer" in message]
    assert f"Trials.{name}," in said


def test_a_space_with_symbols_of_the_users_own_runs_without_the_table_of_symbols(
    without: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @pyll.scope.define
    def doubled_here(value: float) -> float:
        return 2 * value

    try:
        without("_impls")
        trials = study(rand.suggest, 3, pyll.scope.doubled_here(hp.uniform("x", 1, 2)), fn=float)
        assert all(2 <= value <= 4 for value in trials.losses())
    finally:
        pyll.scope.undefine("doubled_here")
    [said] = [message for message in caplog.messages if "does not offer" in message]
    assert "pyll.scope._impls," in said


def test_trials_that_were_deleted_are_forgotten(without: Any) -> None:
    without("_dynamic_trials")
    trials = study(rand.suggest, 4)
    assert len(of_hyperopt.documents(trials)) >= 4
    trials.delete_all()
    assert of_hyperopt.documents(trials) == []


def test_every_name_is_there_in_this_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(presence, "_messages", {})
    everything(tmp_path)
    assert presence.said() == []
    assert of_hyperopt.symbol("uniform") is not None
