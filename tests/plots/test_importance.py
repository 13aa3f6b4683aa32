"""How much parameters matter: known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparktune.plots import param_importances
from sparktune.plots.table import Row, Table
from sparktune.study.trial import TrialState

pytestmark = pytest.mark.unit


def study(points: list[dict[str, Any]], losses: Any) -> Table:
    return Table(
        [
            Row(n, TrialState.COMPLETED, float(loss), p)
            for n, (p, loss) in enumerate(zip(points, losses, strict=True))
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_what_decides_is_told_from_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [
        {"a": x, "b": y, "noise": z, "option": str(w)}
        for x, y, z, w in zip(*rng.random((3, 200)), rng.integers(3, size=200), strict=True)
    ]
    losses = [10 * (p["a"] - 0.3) ** 2 + (p["b"] - 0.5) ** 2 for p in points]
    found = param_importances(study(points, losses))
    assert sum(found.values()) == pytest.approx(1)
    assert next(iter(found)) == "a"
    assert found["a"] > 0.6
    assert found["noise"] < 0.1
    assert found["option"] < 0.1


def test_only_ranks_count() -> None:
    rng = np.random.default_rng(0)
    points = [{"a": x, "b": y} for x, y in rng.random((60, 2))]
    losses = np.array([p["a"] + 0.1 * p["b"] for p in points])
    plain, odd = (param_importances(study(points, values)) for values in (losses, np.exp(30 * losses)))
    assert plain == odd


def test_an_option_that_decides() -> None:
    rng = np.random.default_rng(1)
    points = [{"kind": str(k), "x": x} for k, x in zip(rng.integers(4, size=80), rng.random(80), strict=True)]
    found = param_importances(study(points, [0.1 * p["x"] + (p["kind"] != "2") for p in points]))
    assert next(iter(found)) == "kind"


def test_a_conditional_parameter_counts_by_its_values_where_it_is_active() -> None:
    rng = np.random.default_rng(2)
    points: list[dict[str, Any]] = []
    losses = []
    for number in range(300):
        if number % 2:
            points.append({"model": "svm", "C": rng.random(), "idle": rng.random()})
            losses.append((points[-1]["C"] - 0.5) ** 2)
        else:
            points.append({"model": "tree", "depth": int(rng.integers(2, 20))})
            losses.append(1.0 + 0.001 * points[-1]["depth"])
    found = param_importances(study(points, losses))
    assert found["model"] > 0.1
    assert found["C"] > 0.3
    assert found["idle"] < 0.05  # active in the good trials only, which is its parent's doing
    assert found["depth"] == 0.0  # it decides between bad trials


def test_without_enough_trials_or_differences_nothing_is_claimed() -> None:
    assert param_importances(study([{"a": 1}] * 3, [1, 2, 3])) == {}
    assert param_importances(study([{}] * 30, range(30))) == {}
    assert param_importances(study([{"a": n} for n in range(30)], [1.0] * 30)) == {"a": 0.0}
    assert param_importances(study([{"a": 1}] * 30, range(30))) == {"a": 0.0}


def test_trials_that_were_ended_early_count_by_their_loss() -> None:
    """Most of them are worse than what completed; those that are better are good, too."""
    rng = np.random.default_rng(3)
    states = [TrialState.COMPLETED] * 10 + [TrialState.EARLY_TERMINATED] * 50
    points = [{"x": rng.random(), "idle": rng.random()} for _ in states]
    of_any = Table([Row(n, states[n], loss=p["x"], params=p) for n, p in enumerate(points)])
    of_completed = Table([Row(n, TrialState.COMPLETED, loss=p["x"], params=p) for n, p in enumerate(points)])
    assert of_any.importances == of_completed.importances
    assert of_any.importances["x"] > 0.9
