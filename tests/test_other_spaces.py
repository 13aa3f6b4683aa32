"""Spaces that would give a wrong answer without a word."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import hyperopt
import numpy as np
import pytest
from hypothesis import given, strategies as st

from sparktune import InvalidSpace, Searcher, SimulatedTrials, Trials, fmin, hp, pyll, rand, sample
from sparktune.space import compiling
from tests.conftest import ON_CONNECT


def tune(space: Any, trials: Any, n: int = 3, **arguments: Any) -> Any:
    return fmin(lambda _: 0.0, space, rand.suggest, n, trials=trials, show_progressbar=False, **arguments)


OTHERS = {
    "another label": {"y": hp.uniform("y", 0, 1)},
    "one more label": {"x": hp.uniform("x", 0, 1), "y": hp.uniform("y", 0, 1)},
    "one less": {"z": hp.uniform("z", 0, 1), "c": hp.choice("c", [1, 2])},
}


@pytest.mark.parametrize("kind", [SimulatedTrials, Trials])
@pytest.mark.parametrize("name", OTHERS)
def test_trials_of_another_space_are_refused(kind: Any, name: str) -> None:
    trials = kind()
    tune({"x": hp.uniform("x", 0, 1), "z": hp.uniform("z", 0, 1)}, trials)
    with pytest.raises(InvalidSpace, match=r"another search space.*'x'.*labels \[.*new trials object"):
        tune(OTHERS[name], trials, 6)
    assert len(trials) == 3


@pytest.mark.parametrize("kind", [SimulatedTrials, Trials])
def test_an_option_that_is_gone_is_refused_and_a_range_that_changed_is_not(kind: Any) -> None:
    trials = kind()
    points = [{"c": 2, "x": 0.9}]
    space = {"c": hp.choice("c", "abc"), "x": hp.uniform("x", 0, 1)}
    tune(space, trials, 2, points_to_evaluate=points)
    tune({**space, "x": hp.uniform("x", 0, 0.1)}, trials, 4)
    with pytest.raises(InvalidSpace, match="another search space"):
        tune({**space, "c": hp.choice("c", "ab")}, trials, 6)


def test_a_branch_needs_its_own_labels() -> None:
    trials = SimulatedTrials()
    tune(hp.choice("c", [{"x": hp.uniform("x", 0, 1)}, 1]), trials, 8, rstate=0)
    with pytest.raises(InvalidSpace, match="another search space"):
        tune(hp.choice("c", [{"y": hp.uniform("y", 0, 1)}, {"x": hp.uniform("x", 0, 1)}]), trials, 9)


def test_a_choice_that_is_computed_is_no_reason_to_refuse() -> None:
    index = pyll.scope.int(hp.quniform("i", 0, 1, 1))
    space = pyll.scope.switch(index, hp.uniform("x", 0, 1), hp.uniform("y", 0, 1))
    trials = Trials()
    for n in (3, 6):
        fmin(lambda _: 0.0, space, hyperopt.rand.suggest, n, trials=trials, show_progressbar=False)
    assert len(trials) == 6


def test_a_save_file_of_another_study_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.pkl"
    tune(hp.uniform("x", 0, 1), SimulatedTrials(), trials_save_file=path)
    before = path.read_bytes()
    with pytest.raises(InvalidSpace, match="another search space"):
        tune(hp.uniform("y", 0, 1), SimulatedTrials(), 6, trials_save_file=path)
    assert path.read_bytes() == before


def warnings_of(space: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sparktune"):
        compiling.check(pyll.as_apply(space))
    return [record.getMessage() for record in caplog.records]


def test_bounds_of_a_loguniform_that_look_like_values_are_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (text,) = warnings_of({"lr": hp.loguniform("lr", 1e-5, 1), "x": hp.uniform("x", 0, 1)}, caplog)
    assert "it searches 1 to 2.72" in text
    assert "hp.loguniform('lr', math.log(1e-05), math.log(1))" in text
    (text,) = warnings_of(hp.qloguniform("n", 0.01, 10, 1), caplog)
    assert "hp.qloguniform('n'" in text


@pytest.mark.parametrize("bounds", [(-5, 0), (0, 5), (1, 5), (math.log(1.1), math.log(10)), (0.5, 2)])
def test_bounds_that_are_meant_as_exponents_are_not(
    bounds: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    assert not warnings_of(hp.loguniform("x", *bounds), caplog)


@given(st.floats(1e-6, 0.1), st.floats(1, 1e3))
def test_logarithms_of_bounds_are_never_warned_about(low: float, high: float) -> None:
    parameter = next(compiling.compiled(pyll.as_apply(hp.loguniform("x", math.log(low), math.log(high)))))
    assert not compiling._look_like_values(parameter)


def log(low: float, high: float) -> tuple[float, float]:
    return math.log(low), math.log(high)


ROUNDED = [
    (
        hp.quniform("q", 1, 10, 4),
        (1, 10),
        {0},
        "hp.quniform('q', 4, 8, 4), or steps that begin at 1: 1 + hp.quniform('q', 0, 8, 4)",
    ),
    (hp.quniform("q", 1, 11, 4), (1, 11), {0, 12}, "gives 0 and 12 for 'q'"),
    (hp.quniform("q", -11, -1, 4), (-11, -1), {-12, 0}, "gives -12 and 0 for 'q'"),
    (hp.quniform("q", 1, 3, 4), (1, 3), {0, 4}, "take a smaller q"),
    (hp.qloguniform("q", *log(1, 10), 4), (1, 10), {0}, "hp.qloguniform('q', math.log(4), math.log(8), 4)"),
    (hp.uniformint("q", 0.2, 3.7), (0.2, 3.7), {0, 4}, "hp.quniform('q', 1, 3, 1)"),
    (hp.choice("c", [5, hp.quniform("q", 1, 10, 4)]), (1, 10), {0}, "gives 0 for 'q'"),
    (hp.quniform("q", 0, 1, 0.1), (0, 1), set(), ""),
    (hp.quniform("q", 0.1, 0.7, 0.1), (0.1, 0.7), set(), ""),
    (hp.quniform("q", 50, 500, 100), (50, 500), set(), ""),
    (hp.quniform("q", 0, 10, 4), (0, 10), set(), ""),
    (hp.qloguniform("q", *log(1, 1000), 1), (1, 1000), set(), ""),
    (hp.uniformint("q", 2, 8), (2, 8), set(), ""),
    (hp.qnormal("q", 0, 1, 4), (-math.inf, math.inf), set(), ""),
]


@pytest.mark.parametrize(("space", "bounds", "outside", "said"), ROUNDED)
def test_values_that_rounding_takes_out_of_the_bounds_are_named(
    space: Any, bounds: tuple[float, float], outside: set[float], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is said is what hyperopt draws."""
    drawn = {float(hyperopt.pyll.stochastic.sample(space, np.random.default_rng(n))) for n in range(300)}
    near = 1e-9
    found = {value for value in drawn if not bounds[0] - near <= value <= bounds[1] + near}
    assert found == outside
    texts = warnings_of(space, caplog)
    assert len(texts) == bool(outside)
    assert all(said in text for text in texts)


@pytest.mark.parametrize("use", [lambda s: sample(s, 3, rng=0), lambda s: Searcher(s)])
def test_everything_that_takes_a_space_warns(use: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    use({"lr": hp.loguniform("lr", 1e-4, 0.1)})
    assert "exponents of e" in caplog.text


@pytest.mark.skipif(ON_CONNECT, reason="hyperopt's SparkTrials need a SparkContext")
def test_hyperopts_spark_trials_are_told_apart(spark: Any, caplog: pytest.LogCaptureFixture) -> None:
    trials = hyperopt.SparkTrials(parallelism=1, spark_session=spark)
    caplog.clear()

    def enough(*_: Any) -> Any:
        raise LookupError("hyperopt's loop has begun")

    with pytest.raises(LookupError, match="loop has begun"):
        fmin(abs, hp.uniform("x", 0, 1), enough, 1, trials=trials, show_progressbar=False)
    assert "from sparktune import SparkTrials" in caplog.text
