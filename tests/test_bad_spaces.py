"""Spaces that nothing can search are refused before the first trial, whatever the algorithm."""

from __future__ import annotations

from typing import Any

import hyperopt
import pytest
from hyperopt import hp, pyll

import sparktune
from sparktune.errors import InvalidSpace

BAD = {
    "low above high": (hp.uniform("bad", 1, 0), r"'bad', hp.uniform\(1, 0\), is empty"),
    "low is high": (hp.uniform("bad", 0, 0), "'bad'.*is empty"),
    "log bounds the wrong way": (hp.loguniform("bad", 0, -3), "'bad'.*is empty.*exponents of e"),
    "log bounds that are values": (hp.loguniform("bad", 1, 1024), "'bad'.*1024 is too large"),
    "q is 0": (hp.quniform("bad", 0, 1, 0), "q of 'bad'.*is 0; it must be greater than 0"),
    "q below 0": (hp.qnormal("bad", 0, 1, -1), "q of 'bad'.*is -1"),
    "sigma is 0": (hp.normal("bad", 0, 0), "sigma of 'bad'.*is 0"),
    "sigma below 0": (hp.lognormal("bad", 0, -1), "sigma of 'bad'.*is -1"),
    "choice of nothing": (hp.choice("bad", []), "'bad'.*no options"),
    "randint of nothing": (hp.randint("bad", 5, 2), "'bad'.*from 5 to 2"),
    "probabilities": (hp.pchoice("bad", [(0.2, 1), (0.2, 2)]), "probabilities of hp.pchoice.'bad'"),
}
ALGORITHMS = [hyperopt.tpe.suggest, hyperopt.rand.suggest, sparktune.rand.suggest, sparktune.sobol.suggest]


def refuse(space: Any, algo: Any, trials: Any, expected: type[Exception], message: str) -> None:
    with pytest.raises(expected, match=message):
        sparktune.fmin(lambda point: 0.0, space, algo, 3, trials=trials, show_progressbar=False)
    assert not trials._dynamic_trials


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("make", [sparktune.SimulatedTrials, hyperopt.Trials])
def test_bad_spaces_fail_before_the_first_trial(name: str, algo: Any, make: Any) -> None:
    node, message = BAD[name]
    space = {"c": hp.choice("c", [{"good": hp.uniform("good", 0, 1)}, {"nested": [node]}])}
    refuse(space, algo, make(), InvalidSpace, message)


@pytest.mark.parametrize("make", [sparktune.SimulatedTrials, hyperopt.Trials])
@pytest.mark.parametrize(
    ("space", "message"), [({}, "empty"), ([], "empty"), (3, "is 3, which"), (None, "is None, which")]
)
def test_nothing_to_search(space: Any, message: str, make: Any) -> None:
    refuse(space, hyperopt.rand.suggest, make(), InvalidSpace, message)


@pytest.mark.parametrize("make", [sparktune.SimulatedTrials, hyperopt.Trials])
@pytest.mark.parametrize("expected", [InvalidSpace, hyperopt.exceptions.DuplicateLabel, ValueError])
def test_one_label_for_two_parameters(make: Any, expected: type[Exception]) -> None:
    space = {"a": hp.uniform("lr", 0, 1), "b": hp.uniform("lr", 0, 1)}
    refuse(space, hyperopt.rand.suggest, make(), expected, "the label 'lr' is used by two hyperparameters")


def test_the_searcher_and_sample_refuse_them_too() -> None:
    for call in (sparktune.Searcher, sparktune.sample):
        with pytest.raises(InvalidSpace, match="'bad'"):
            call({"x": BAD["q is 0"][0]})


RANGES = {
    "a range that is an expression": hp.uniform("x", 0, hp.uniform("y", 1, 2)),
    "a distribution of hyperopt's that we do not know": pyll.scope.hyperopt_param(
        "x", pyll.scope.randint_via_categorical([0.5, 0.5])
    ),
}


def test_a_range_that_hangs_on_another_goes_on_with_hyperopts_random_search() -> None:
    space = hp.uniform("x", 0, 1 + pyll.scope.len([1, 2, 3]))
    trials = sparktune.SimulatedTrials()
    sparktune.fmin(lambda x: x, space, hyperopt.rand.suggest, 5, trials=trials, show_progressbar=False)
    assert len(trials) == 5


@pytest.mark.parametrize("algo", [None, *ALGORITHMS])
@pytest.mark.parametrize("make", [sparktune.SimulatedTrials, hyperopt.Trials])
def test_constants_are_run_with_a_warning(make: Any, algo: Any, caplog: pytest.LogCaptureFixture) -> None:
    trials, space = make(), {"depth": 3, "kind": "rbf"}
    options: Any = {"trials": trials, "show_progressbar": False}
    assert sparktune.fmin(lambda p: float(p["depth"]), space, algo, 1, **options) == {}
    assert trials.losses() == [3.0]
    assert caplog.text.count("the search space has no hyperparameters") == 1


def test_a_range_with_a_random_bound_is_let_pass(capfd: pytest.CaptureFixture[str]) -> None:
    space = {"x": RANGES["a range that is an expression"]}
    trials = sparktune.SimulatedTrials()
    with pytest.raises(InvalidSpace, match="high of the hyperparameter 'x' is not a plain number"):
        sparktune.fmin(lambda p: 0.0, space, sparktune.rand.suggest, 5, trials=trials, show_progressbar=False)
    assert "EXCEPTION" not in "".join(capfd.readouterr())
    sparktune.fmin(lambda p: p["x"], space, hyperopt.rand.suggest, 5, trials=trials, show_progressbar=False)
    assert len(trials) == 5


def test_a_distribution_that_only_hyperopt_knows_is_let_pass() -> None:
    sparktune.space.compiling.check(RANGES["a distribution of hyperopt's that we do not know"])


def test_probabilities_with_a_rounding_error_are_taken() -> None:
    space = hp.pchoice("p", [(0.33, 0), (0.33, 1), (0.33, 2)])
    for algo in ALGORITHMS:
        trials = sparktune.SimulatedTrials()
        sparktune.fmin(lambda p: float(p), space, algo, 3, trials=trials, show_progressbar=False)
        assert len(trials) == 3
