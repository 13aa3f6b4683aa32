"""What is read off hyperopt's expressions, and what is refused."""

from __future__ import annotations

from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import hp, pyll

from sparktune.errors import InvalidSpace
from sparktune.space.compiling import compiled
from sparktune.space.search_space import SearchSpace
from tests.search.spaces import CONDITIONAL, KINDS

pytestmark = pytest.mark.unit


def test_parents_come_first_and_branches_are_known() -> None:
    space = SearchSpace(CONDITIONAL)
    labels = [p.label for p in space.parameters]
    conditions = {
        p.label: {(labels[parent], option) for parent, option in p.conditions} for p in space.parameters
    }
    assert conditions == {
        "lr": set(),
        "seed": set(),
        "model": set(),
        "C": {("model", 0)},
        "shared": {("model", 0), ("model", 2)},
        "shared choice": {("model", 0), ("model", 3)},
        "deep": {("shared choice", 0)},
        "depth": {("model", 1)},
        "split": {("model", 1)},
        "base": {("split", 1)},
        "rounds": {("model", 2)},
    }
    for p in space.parameters:
        assert all(parent < space.column[p.label] for parent, _ in p.conditions)
    assert {p.label for p in space.parameters if p.is_branching} == {"model", "split", "shared choice"}


def test_a_parameter_that_is_also_needed_elsewhere_is_always_active() -> None:
    x = hp.uniform("x", 0, 1)
    for space in ({"c": hp.choice("c", [x, 1]), "x": x}, {"a": x, "c": hp.choice("c", [x, 1])}):
        assert all(not p.conditions for p in SearchSpace(space).parameters)


def test_the_text_is_what_the_user_wrote() -> None:
    texts = {kind: SearchSpace({"x": node}).parameters[0].text for kind, node in KINDS.items()}
    assert texts["uniform"] == "hp.uniform(-2, 5)"
    assert texts["qlognormal"] == "hp.qlognormal(0, 1, 0.5)"
    assert texts["uniformint"] == "hp.quniform(1, 20, 1)"


def test_numbers_of_numpy_are_numbers() -> None:
    node = hp.quniform("x", np.float32(0), np.int64(4), np.array(2.0))
    (parameter,) = SearchSpace(node).parameters
    assert (parameter.low, parameter.high, parameter.q) == (0, 4, 2)


def test_very_many_options_are_options_where_one_is_a_branch() -> None:
    """Plain ones are told by their order, like the integers of a wide randint."""
    plain, branch = list(range(10_001)), {"u": hp.uniform("u", 0, 1)}
    (ordered,) = SearchSpace(hp.choice("c", plain)).parameters
    assert ordered.kind == "uniform"
    choice, inner = SearchSpace(hp.choice("c", [*plain, branch])).parameters
    assert (choice.kind, choice.n_options) == ("options", 10_002)
    assert inner.conditions == ((0, 10_001),)


def custom(label: str) -> Any:
    return pyll.scope.hyperopt_param(label, pyll.scope.rng_from_seed(3))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (hp.uniform("bad", 1, 0), r"the range of 'bad', hp.uniform\(1, 0\), is empty"),
        (hp.uniform("bad", 0, 0), "the range of 'bad'.*is empty"),
        (hp.loguniform("bad", 0, -3), "the range of 'bad'.*is empty.*both are exponents of e"),
        (hp.loguniform("bad", 1, 1000), "upper bound of 'bad'.*1000 is too large; give the logarithms"),
        (hp.quniform("bad", 0, 1, 0), r"q of 'bad' \(hp.quniform\) is 0; it must be greater than 0"),
        (hp.qlognormal("bad", 0, 1, -2), "q of 'bad'.*is -2"),
        (hp.normal("bad", 0, 0), r"sigma of 'bad', hp.normal\(0, 0\), is 0"),
        (hp.lognormal("bad", 0, -1), "sigma of 'bad'.*is -1"),
        (hp.lognormal("bad", 1000, 1), r"mu of 'bad'.*is an exponent of e.*give the .*log\(1000\)"),
        (
            hp.normal("bad", 1e10, 1e-12),
            r"'bad', hp.normal\(1e\+10, 1e-12\), is narrower than floating-point numbers",
        ),
        (hp.uniform("bad", -1.7e308, 1.7e308), "the range of 'bad'.*is wider than the largest"),
        (hp.uniform("bad", 0, float("nan")), "high of 'bad' is nan; it must be finite"),
        (hp.uniform("bad", float("-inf"), 0), "low of 'bad' is -inf; it must be finite"),
        (hp.uniform("bad", "a", "b"), "low of 'bad' is 'a', which is not a number"),
        (hp.choice("bad", []), "'bad'.*has no options"),
        (hp.randint("bad", 0), "'bad'.*has no options"),
        (hp.randint("bad", 5, 2), "'bad'.*no whole number from 5 to 2"),
        (hp.randint("bad", 0.5, 3), "bounds of hp.randint.'bad'. are 0.5 and 3; give whole numbers"),
        (hp.pchoice("bad", [(0.5, 1), (0.2, 2)]), "probabilities of hp.pchoice.'bad'.*sum 1"),
        (hp.pchoice("bad", [(-0.5, 1), (1.5, 2)]), "probabilities of hp.pchoice.'bad'.*at least 0"),
        (custom("bad"), "'bad' has the distribution 'rng_from_seed'"),
        (
            hp.uniform("bad", 0, hp.uniform("y", 1, 2)),
            "high of the hyperparameter 'bad' is not a plain number",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(node: Any, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        SearchSpace({"k": [node]})


def test_one_label_twice() -> None:
    twice = {"a": hp.uniform("lr", 0, 1), "b": hp.uniform("lr", 0, 1)}
    with pytest.raises(InvalidSpace, match="the label 'lr' is used by two hyperparameters"):
        SearchSpace(twice)
    # Told apart by name where hyperopt's own exception is expected.
    with pytest.raises(hyperopt.exceptions.DuplicateLabel):
        SearchSpace(twice)


def test_each_value_of_a_computed_choice_leads_to_its_branch() -> None:
    x, y = hp.uniform("x", 0, 1), hp.uniform("y", 0, 1)
    whole = {p.label: p for p in compiled(pyll.scope.switch(hp.uniformint("n", 0, 2), x, y, x))}
    assert whole["n"].probabilities == pytest.approx((0.25, 0.5, 0.25), abs=1e-4), "as they are rounded"
    assert whole["n"].plain(1.0) == 1.0
    assert type(whole["n"].plain(1.0)) is float, "as hyperopt tells it"
    assert whole["x"].conditions == ((0, 0), (0, 2))
    assert whole["y"].conditions == ((0, 1),)

    index = pyll.scope.sub(3, hp.randint("r", 1, 4))
    turned = {p.label: p for p in compiled(pyll.scope.switch(index, x, y))}
    assert turned["x"].conditions == ((0, 2),), "where r is 3"
    assert turned["y"].conditions == ((0, 1),)

    for unknown in (hp.uniform("n", 0, 2), hp.quniform("n", 0, 2, 0.5)):
        cut = {p.label: p for p in compiled(pyll.scope.switch(pyll.scope.int(unknown), x, y))}
        assert cut["n"].kind == "uniform", "it may be needed elsewhere, as it is"
        assert not cut["x"].conditions

    some = pyll.scope.switch(pyll.scope.sub(2, hp.choice("c", ["a text", 2, 1])), x, y)
    assert {p.label: p.conditions for p in compiled(some)} == {"c": (), "x": ((0, 1),), "y": ((0, 2),)}
