"""What every suggest function of hyperopt's form must do: its tests subclass ``SuggestConformance``.

Golden points are kept in ``golden/<name>.json``. ``SPARKTUNE_GOLDEN=rewrite`` writes them anew; without it a
change of the suggestions fails the tests.
"""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import hyperopt
import numpy as np
import pytest
from hyperopt.base import (
    JOB_STATE_CANCEL,
    JOB_STATE_DONE,
    JOB_STATE_ERROR,
    JOB_STATE_NEW,
    JOB_STATE_RUNNING,
    STATUS_FAIL,
    STATUS_OK,
)
from hypothesis import HealthCheck, given, settings, strategies as st
from threadpoolctl import threadpool_limits

from sparktune.errors import InvalidSpace
from tests.search.spaces import (
    COMPUTED,
    CONDITIONAL,
    FINITE,
    FINITE_KINDS,
    FINITE_SIZE,
    KINDS,
    assert_point_fits,
    config_of,
    nested_spaces,
)

HERE = Path(__file__).resolve().parent
REWRITE = os.environ.get("SPARKTUNE_GOLDEN") == "rewrite"

OUTCOMES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "good": (JOB_STATE_DONE, {"status": STATUS_OK, "loss": 0.1}, {}),
    "fair": (JOB_STATE_DONE, {"status": STATUS_OK, "loss": 2.5}, {}),
    "whole number": (JOB_STATE_DONE, {"status": STATUS_OK, "loss": 3}, {}),
    "failed by its own word": (JOB_STATE_DONE, {"status": STATUS_FAIL}, {}),
    "failed with a loss": (JOB_STATE_DONE, {"status": STATUS_FAIL, "loss": -9.0}, {}),
    "NaN": (JOB_STATE_DONE, {"status": STATUS_OK, "loss": math.nan}, {}),
    "infinite": (JOB_STATE_DONE, {"status": STATUS_OK, "loss": math.inf}, {}),
    "raised": (JOB_STATE_ERROR, {"status": "new"}, {"error": ("ValueError", "no")}),
    "cancelled": (JOB_STATE_CANCEL, {"status": "new"}, {}),
    "timed out": (JOB_STATE_CANCEL, {"status": "new"}, {"error": ("timed_out", "trial_timeout")}),
    "early terminated": (
        JOB_STATE_DONE,
        {"status": STATUS_OK, "loss": -5.0},
        {"early_terminated": "median stopping"},
    ),
    "running": (JOB_STATE_RUNNING, {"status": "new"}, {}),
    "waiting": (JOB_STATE_NEW, {"status": "new"}, {}),
}
"""What may have become of a trial: its state, its result, and what is added to ``misc``."""

PENDING = ("running", "waiting")


def domain_of(space: Any) -> hyperopt.Domain:
    return hyperopt.Domain(lambda point: 0.0, space)


def end(document: dict[str, Any], outcome: str) -> None:
    """Let a trial become what ``OUTCOMES`` says."""
    state, result, misc = OUTCOMES[outcome]
    document["state"] = state
    document["result"] = dict(result)
    document["misc"].update(misc)


def trials_with(domain: hyperopt.Domain, outcomes: list[str], seed: int = 0) -> hyperopt.Trials:
    """A study with random points of these outcomes."""
    trials = hyperopt.Trials()
    documents = hyperopt.rand.suggest(trials.new_trial_ids(len(outcomes)), domain, trials, seed)
    trials.insert_trial_docs(documents)
    for document, outcome in zip(trials._dynamic_trials, outcomes, strict=True):
        end(document, outcome)
    trials.refresh()
    return trials


def judged(config: dict[str, Any]) -> float:
    """Some loss, smooth in the numbers; the same on every machine."""
    return sum((value - i) ** 2 / (1 + abs(value)) for i, (_, value) in enumerate(sorted(config.items())))


class SuggestConformance:
    """Subclass it as ``TestX`` and set ``suggest``.

    Attributes:
        suggest: the suggest function, as ``staticmethod``.
        name: of the golden file and for the fresh process, ``module:function``; None for algorithms not ours.
        finite_only: infinite spaces are refused.
        many_ids: one call may ask for several trials.
        computed_choices: spaces whose choices are computed can be searched.
        uses_seed: another seed gives other points.
        uses_blas: its points depend on the BLAS: golden ones are those of OpenBLAS for one kind of processor.
    """

    suggest: ClassVar[Any]
    name: ClassVar[str | None] = None
    finite_only: ClassVar[bool] = False
    many_ids: ClassVar[bool] = True
    computed_choices: ClassVar[bool] = True
    uses_seed: ClassVar[bool] = True
    uses_blas: ClassVar[bool] = False

    # -- helpers ---------------------------------------------------------------------------------------

    @property
    def space(self) -> Any:
        return FINITE if self.finite_only else CONDITIONAL

    def ask(
        self, domain: hyperopt.Domain, trials: hyperopt.Trials, n: int = 1, seed: Any = 0
    ) -> list[dict[str, Any]]:
        """Ask for ``n`` trials, check the documents, and insert them."""
        ids = trials.new_trial_ids(n)
        if self.many_ids:
            documents = self.suggest(ids, domain, trials, seed)
        else:
            documents = [self.suggest([i], domain, trials, seed + k)[0] for k, i in enumerate(ids)]
        assert [d["tid"] for d in documents] == ids[: len(documents)]
        assert len(documents) == n or self.finite_only
        for document in documents:
            self.check(domain, document)
        trials.insert_trial_docs(documents)
        trials.refresh()
        return trials._dynamic_trials[len(trials._dynamic_trials) - len(documents) :]

    def check(self, domain: hyperopt.Domain, document: dict[str, Any]) -> None:
        assert document["state"] == JOB_STATE_NEW
        assert document["result"] == {"status": "new"}
        misc, tid = document["misc"], document["tid"]
        assert (misc["tid"], misc["cmd"], misc["workdir"]) == (tid, domain.cmd, domain.workdir)
        assert set(misc["idxs"]) == set(misc["vals"]) == set(domain.params)
        for label, values in misc["vals"].items():
            assert list(misc["idxs"][label]) == [tid] * len(values)
            assert len(values) <= 1
        if self.name is not None:
            json.dumps(document)  # plain Python objects only
            assert_point_fits(domain.expr, config_of(document))
        else:
            plain = {k: v.item() if hasattr(v, "item") else v for k, v in config_of(document).items()}
            hyperopt.space_eval(domain.expr, plain)

    def study(self, space: Any, n: int, seed: int = 0, batch: int = 1) -> list[dict[str, Any]]:
        """Points of a study whose losses are ``judged``; trials of a batch are pending together."""
        domain, trials, points = domain_of(space), hyperopt.Trials(), []
        for begin in range(0, n, batch):
            documents = self.ask(domain, trials, min(batch, n - begin), seed + begin)
            for document in documents:
                points.append(config_of(document))
                document["state"] = JOB_STATE_DONE
                document["result"] = {"status": STATUS_OK, "loss": judged(points[-1])}
            trials.refresh()
        return points

    # -- one node of each kind -------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_node(self, kind: str) -> None:
        if self.finite_only and kind not in FINITE_KINDS:
            pytest.skip("infinite")
        domain = domain_of({"x": KINDS[kind]})
        trials = hyperopt.Trials()
        for i in range(12):
            for document in self.ask(domain, trials, seed=i):
                end(document, list(OUTCOMES)[i])
            trials.refresh()

    def test_a_space_without_parameters(self) -> None:
        assert all(not config for config in self.study({"a": 1}, 3))

    # -- conditional spaces ----------------------------------------------------------------------------

    def test_conditional_parameters(self) -> None:
        points = self.study(self.space, FINITE_SIZE if self.finite_only else 30)
        assert len({point["model"] for point in points}) > 1

    @pytest.mark.parametrize("kind", COMPUTED)
    def test_choices_that_are_computed(self, kind: str) -> None:
        if self.finite_only or not self.computed_choices:
            pytest.skip("not of these")
        for point in self.study(COMPUTED[kind], 25):
            assert_point_fits(COMPUTED[kind], point)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_nested_spaces(self, data: st.DataObject) -> None:
        space = data.draw(nested_spaces(finite=self.finite_only))
        outcomes = data.draw(st.lists(st.sampled_from(list(OUTCOMES)), max_size=8))
        domain = domain_of(space)
        try:
            trials = trials_with(domain, outcomes)
            self.ask(domain, trials, 3, seed=data.draw(st.integers(0, 2**31 - 2)))
            self.ask(domain, trials, 1)
        except InvalidSpace:
            if not self.finite_only:
                raise

    # -- histories -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("outcome", OUTCOMES)
    def test_all_trials_of_one_kind(self, outcome: str) -> None:
        domain = domain_of(self.space)
        for n in (1, 25):
            self.ask(domain, trials_with(domain, [outcome] * n))

    def test_trials_of_every_kind(self) -> None:
        domain = domain_of(self.space)
        trials = trials_with(domain, list(OUTCOMES) * 4)
        for i in range(5):
            self.ask(domain, trials, seed=i)

    def test_what_it_learns_from_may_change_its_mind(self) -> None:
        """A trial that was pending ends; one that was there is gone."""
        domain = domain_of(self.space)
        trials = trials_with(domain, ["running"] * 3 + ["good", "fair"])
        self.ask(domain, trials)
        for document in trials._dynamic_trials[:3]:
            end(document, "good")
        trials.refresh()
        self.ask(domain, trials)
        trials.delete_all()
        self.ask(domain, trials)

    def test_trials_are_left_as_they_are(self) -> None:
        domain = domain_of(self.space)
        trials = trials_with(domain, list(OUTCOMES) * 2)
        before = copy.deepcopy(trials._dynamic_trials)
        self.suggest(trials.new_trial_ids(1), domain, trials, 3)
        assert repr(trials._dynamic_trials) == repr(before)

    @pytest.mark.parametrize("n", [1, 25])
    def test_options_outside_the_space(self, n: int) -> None:
        """Of the user, or of a study whose options were others."""
        if self.name is None:
            pytest.skip("not ours")
        hp = hyperopt.hp
        space = {"n": hp.randint("n", 2, 7), "c": hp.choice("c", [{"k": hp.randint("k", 3)}, 1])}
        domain = domain_of(space)
        trials = trials_with(domain, ["good", "fair", "running"] * n)
        for document, value in zip(trials._dynamic_trials, [100, -1, 2.5] * n, strict=True):
            document["misc"]["vals"].update(n=[value], c=[0], k=[value])
        for i in range(5):
            self.ask(domain, trials, 2, seed=i)

    @pytest.mark.parametrize("n", [1, 25])
    def test_trials_from_before_the_space_had_a_parameter_more(self, n: int) -> None:
        if self.name is None:
            pytest.skip("not ours")
        hp = hyperopt.hp
        before = {"n": hp.randint("n", 2, 7)}
        trials = trials_with(domain_of(before), ["good", "fair", "running"] * n)
        more = {"q": hp.quniform("q", 0, 4, 1), "c": hp.choice("c", [1, 2])}
        domain = domain_of(before | more)
        for i in range(5):
            for document in self.ask(domain, trials, 3, seed=i):
                end(document, "good")

    # -- several at once -------------------------------------------------------------------------------

    @pytest.mark.parametrize("outcomes", [[], ["running"] * 5, ["good", "fair", "raised"] * 10])
    def test_several_at_once(self, outcomes: list[str]) -> None:
        domain = domain_of(self.space)
        documents = self.ask(domain, trials_with(domain, outcomes), 16)
        assert len({json.dumps(config_of(d), sort_keys=True, default=float) for d in documents}) > 8

    def test_points_of_a_continuous_space_are_distinct(self) -> None:
        if self.finite_only:
            pytest.skip("finite")
        space = {"x": hyperopt.hp.uniform("x", 0, 1), "y": hyperopt.hp.normal("y", 0, 1)}
        for batch in (1, 8):
            points = self.study(space, 40, batch=batch)
            assert len({(point["x"], point["y"]) for point in points}) == 40

    def test_no_ids_no_points(self) -> None:
        if not self.many_ids:
            pytest.skip("one id at a time")
        domain = domain_of(self.space)
        assert list(self.suggest([], domain, trials_with(domain, ["good"]), 0)) == []

    # -- randomness ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("outcomes", [[], list(OUTCOMES) * 3])
    def test_same_seed_same_points(self, outcomes: list[str]) -> None:
        def points(seed: Any) -> list[dict[str, Any]]:
            domain = domain_of(self.space)
            return [config_of(d) for d in self.ask(domain, trials_with(domain, outcomes), 4, seed)]

        assert points(7) == points(7) == points(np.int64(7))
        if self.uses_seed:
            assert points(7) != points(8)

    def test_same_trials_object_or_not(self) -> None:
        """What an algorithm remembers of a trials object does not change its suggestions."""
        domain = domain_of(self.space)
        trials = trials_with(domain, list(OUTCOMES))
        for seed in range(4):
            restored = copy.deepcopy(trials)
            ids = restored.new_trial_ids(1)
            fresh = self.suggest(ids, domain_of(self.space), restored, seed)
            (document,) = self.ask(domain, trials, seed=seed)
            assert config_of(fresh[0]) == config_of(document)

    def test_global_random_state_is_left_alone(self) -> None:
        before = np.random.get_state()
        self.study(self.space, 12)
        after = np.random.get_state()
        assert before[2:] == after[2:]
        assert np.array_equal(before[1], after[1])

    def test_same_points_in_another_process(self) -> None:
        if self.name is None:
            pytest.skip("not ours")
        code = (
            "import json; from tests.search.conformance import fresh_points; "
            f"print(json.dumps(fresh_points({self.name!r})))"
        )
        # Two threads of linear algebra, as a user's process has: scripts/test gives the others one.
        env = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": str(HERE.parent.parent)}
        env |= {"OPENBLAS_NUM_THREADS": "2"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        with threadpool_limits(2, "blas"):
            assert json.loads(done.stdout) == fresh_points(self.name)

    # -- in hyperopt's own loop ------------------------------------------------------------------------

    @pytest.mark.parametrize("max_queue_len", [1, 3])
    def test_hyperopts_fmin(self, max_queue_len: int) -> None:
        if max_queue_len > 1 and not self.many_ids:
            pytest.skip("one id at a time")
        trials = hyperopt.Trials()

        def objective(point: Any) -> dict[str, Any]:
            lr = point.get("lr", point.get("width"))
            return {"loss": lr, "status": STATUS_FAIL if point["seed"] == 0 else STATUS_OK}

        best = hyperopt.fmin(
            objective,
            self.space,
            self.suggest,
            25,
            trials=trials,
            rstate=np.random.default_rng(1),
            max_queue_len=max_queue_len,
            show_progressbar=False,
        )
        assert len(trials) == 25
        point = hyperopt.space_eval(self.space, best)
        assert objective(point)["loss"] == trials.best_trial["result"]["loss"]

    # -- spaces that cannot be searched ----------------------------------------------------------------

    @pytest.mark.parametrize(
        ("node", "message"),
        [
            (hyperopt.hp.uniform("bad", 1, 0), "'bad'.*hp.uniform.1, 0.*low must be less than high"),
            (hyperopt.hp.quniform("bad", 0, 1, 0), "'bad'.*is 0; it must be greater"),
            (hyperopt.hp.normal("bad", 0, -1), "'bad'.*is -1; it must be greater"),
            (hyperopt.hp.loguniform("bad", 1, 1000), "'bad'.*too large"),
            (hyperopt.hp.choice("bad", []), "'bad'.*no options"),
        ],
    )
    def test_bad_spaces_are_told(self, node: Any, message: str) -> None:
        if self.name is None:
            pytest.skip("not ours")
        domain = domain_of({"bad": node})
        with pytest.raises(InvalidSpace, match=message):
            self.suggest([0], domain, hyperopt.Trials(), 0)

    # -- golden points ---------------------------------------------------------------------------------

    def points_with_one_blas(self) -> dict[str, list[dict[str, Any]]]:
        """Whatever processor this is: a search of a local optimum magnifies differences of rounding."""
        if platform.machine() != "x86_64":
            pytest.skip("the golden points are those of an x86-64 processor")
        kind, module = type(self), type(self).__module__.rpartition(".")[2]
        code = (
            f"import json; from tests.search.{module} import {kind.__name__}; "
            "from tests.search.conformance import golden_points; "
            f"print(json.dumps(golden_points({kind.__name__}())))"
        )
        env = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "OPENBLAS_CORETYPE": "Haswell"}
        # numpy's exponentials and logarithms differ in the last bit where it finds AVX-512.
        env |= {"OPENBLAS_NUM_THREADS": "1", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        points: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
        return points

    def test_golden_points(self) -> None:
        if self.name is None:
            pytest.skip("not ours")
        points = self.points_with_one_blas() if self.uses_blas else golden_points(self)
        file = HERE / "golden" / f"{self.name.partition(':')[0].rpartition('.')[2]}.json"
        if REWRITE:
            lines = [
                f"{json.dumps(name)}: [\n    " + ",\n    ".join(map(json.dumps, rows)) + "\n  ]"
                for name, rows in points.items()
            ]
            file.write_text("{\n  " + ",\n  ".join(lines) + "\n}\n", "utf-8")
        golden = json.loads(file.read_text("utf-8"))
        assert set(points) == set(golden)
        for name, rows in golden.items():
            assert len(points[name]) == len(rows)
            for got, wanted in zip(points[name], rows, strict=True):
                assert got == pytest.approx(wanted, rel=1e-9)


def golden_points(suite: SuggestConformance) -> dict[str, list[dict[str, Any]]]:
    """One after another, and four at a time with four more running."""
    points = {
        "finite": suite.study(FINITE, 24, seed=11),
        "finite, 4 at a time": suite.study(FINITE, 24, seed=12, batch=4),
    }
    if not suite.finite_only:
        points["conditional"] = suite.study(CONDITIONAL, 40, seed=13)
        points["conditional, 4 at a time"] = suite.study(CONDITIONAL, 40, seed=14, batch=4)
        every = {kind: hyperopt.hp.choice(f"{kind} of", [node]) for kind, node in relabelled().items()}
        points["every kind"] = suite.study(every, 25, seed=15)
    return points


def relabelled() -> dict[str, Any]:
    """Some of the kinds in one space."""
    hp = hyperopt.hp
    return {
        "normal": hp.normal("normal", 3, 2),
        "qnormal": hp.qnormal("qnormal", -3, 2, 0.25),
        "qlognormal": hp.qlognormal("qlognormal", 0, 1, 0.5),
        "uniform": hp.uniform("uniform", -2, 5),
        "pchoice": hp.pchoice("pchoice", [(0.2, "a"), (0.8, "b")]),
        "many": hp.randint("many", 1, 2_000_001),
    }


def fresh_points(name: str) -> list[dict[str, Any]]:
    """Suggestions after a history with everything in it; called in another process."""
    import importlib

    module, _, function = name.partition(":")
    suggest = getattr(importlib.import_module(module), function)
    space = FINITE if module.endswith("grid") else CONDITIONAL
    domain = domain_of(space)
    trials = trials_with(domain, list(OUTCOMES) * 3)
    return [config_of(d) for d in suggest(trials.new_trial_ids(6), domain, trials, 5)]
