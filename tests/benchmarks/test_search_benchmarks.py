"""The benchmark of search quality: its problems, its statistics, and one short run of each program."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import search_algorithms
import search_report
from search_algorithms import Optuna, suggest_function
from search_problems import KEPT, PROBLEMS, TUNING, names_of, problem
from search_simulation import reference, search

from sparktune import Trials, fmin, hp, tpe
from sparktune.space.search_space import SearchSpace

pytestmark = pytest.mark.system

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
OPTIMA: dict[str, dict[str, float]] = {
    "camel": {"x": 0.0898420131, "y": -0.7126564032},
    "levy": {f"x{i}": 1.0 for i in range(6)},
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_as_they_say(name: str) -> None:
    task = problem(name)
    space, rng = SearchSpace(task.space), np.random.default_rng(1)
    configs = [space.config(row) for row in space.sample(300, rng)]
    losses = np.array([task.truth(config) for config in configs])
    assert np.isfinite(losses).all()
    assert losses.min() >= task.best - 1e-12
    assert np.ptp(losses) > 0
    assert all(0 < task.seconds(config, rng) < math.inf for config in configs)
    observed = [task.observe(config, rng) for config in configs]
    assert (observed == losses).all() == (task.noisy is None)


@pytest.mark.parametrize("name", OPTIMA)
def test_the_optimum_is_where_the_literature_says(name: str) -> None:
    assert problem(name).truth(OPTIMA[name]) == pytest.approx(problem(name).best, abs=1e-9)


def test_no_random_sample_beats_a_tree_s_best() -> None:
    """Where the best is written down, it can be reached: all numbers at their targets."""
    config = {"prepare": 1, "reduce": 1, "tree": 1, "tree_n": 55.0, "predict": 1, "boost": 1, "leaves": 33.0}
    config |= {"eta": math.exp(-2), "drop": 1, "share": 0.15}
    assert problem("deep_pipeline").truth(config) == pytest.approx(problem("deep_pipeline").best, abs=1e-12)


def test_noise_is_as_strong_as_the_signal() -> None:
    task = problem("noisy_bowl")
    space, rng = SearchSpace(task.space), np.random.default_rng(3)
    configs = [space.config(row) for row in space.sample(2000, rng)]
    truth = np.array([task.truth(config) for config in configs])
    noise = np.array([task.observe(config, rng) for config in configs]) - truth
    assert noise.std() == pytest.approx(truth.std(), rel=0.1)


def test_sets_of_problems() -> None:
    assert names_of("camel,tuning,nk8") == ["camel", *TUNING]
    assert not set(TUNING) & set(KEPT)
    assert len(TUNING) >= len(KEPT) > 0


@pytest.mark.parametrize("algo", ["random", "optuna", "hyperopt.tpe:suggest"])
@pytest.mark.parametrize("name", ["camel", "models"])
def test_a_search_is_repeatable(algo: str, name: str) -> None:
    first, again = (search(algo, name, 4, 0, 30) for _ in range(2))
    assert {**first, "suggest_s": 0} == {**again, "suggest_s": 0}
    assert len(first["curve"]) == 30
    assert first["curve"] == sorted(first["curve"], reverse=True)  # no noise: never worse again
    assert (first["near"] is None) == (name == "models")


def test_duplicates_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(new_ids: Any, domain: Any, trials: Any, seed: Any) -> Any:
        return suggest_function("random")(new_ids, domain, trials, 7)

    monkeypatch.setattr(search_algorithms, "same", same, raising=False)
    row = search("search_algorithms:same", "camel", 2, 0, 10)
    assert (row["duplicates"], row["near"]) == (9, 9)


def test_the_reference_falls() -> None:
    median = reference("steps", 40, searches=20)["median"]
    assert len(median) == 40
    assert median == sorted(median, reverse=True)


def test_unknown_algorithms_are_named() -> None:
    with pytest.raises(ValueError, match=r"no algorithm 'hyperopt\.nothing:suggest'.*module:function"):
        suggest_function("hyperopt.nothing:suggest")


def test_short_names() -> None:
    assert suggest_function("tpe") is tpe.suggest
    assert suggest_function("tpe?gamma=0.5").keywords == {"gamma": 0.5}


def test_what_a_sampler_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r"optuna:gp .* needs torch: pip install torch"):
        suggest_function("optuna:gp")
    with pytest.raises(ValueError, match=r"smac is SMAC3, .* not installed: pip install smac"):
        suggest_function("smac")


def test_smac_takes_conditions_failures_and_small_spaces() -> None:
    pytest.importorskip("smac", reason="SMAC3 is a peer that is installed by hand")
    space = {
        "x": hp.uniform("x", -3, 3),
        "one": hp.choice("one", [{"inner": hp.randint("inner", 2, 5)}]),
        "never": hp.pchoice("never", [(1.0, 0), (0.0, {"lost": hp.normal("lost", 0, 1)})]),
    }

    def objective(point: Any) -> Any:
        return {"status": "fail"} if point["x"] > 2 else {"status": "ok", "loss": point["x"] ** 2}

    trials = Trials()
    options = {"rstate": 0, "show_progressbar": False}
    fmin(objective, space, suggest_function("smac"), 90, trials=trials, **options)
    assert trials.statuses().count("fail") > 0
    assert min(loss for loss in trials.losses() if loss is not None) < 0.1
    small = Trials()
    fmin(float, hp.choice("c", [0, 1, 2]), suggest_function("smac"), 10, trials=small, **options)
    assert len(small.trials) == 3


def test_options_of_an_algorithm() -> None:
    assert suggest_function("sparktune.tpe:suggest?gamma=0.5").keywords == {"gamma": 0.5}


def test_optuna_learns_from_trials_of_others() -> None:
    space = {
        "x": hp.uniform("x", -3, 3),
        "n": hp.normal("n", 0, 1),
        "q": hp.qloguniform("q", 0, 3, 1),
        "c": hp.choice("c", [0, {"inner": hp.randint("inner", 2, 5)}]),
    }
    trials = Trials()

    def objective(point: Any) -> Any:
        return {"status": "fail"} if point["x"] > 2 else {"status": "ok", "loss": point["x"] ** 2}

    options = {"trials": trials, "show_progressbar": False}
    fmin(objective, space, suggest_function("random"), 30, rstate=0, **options)
    n_failed = trials.statuses().count("fail")
    optuna = Optuna()
    fmin(objective, space, optuna, 60, rstate=1, **options)
    assert n_failed > 0
    assert len(optuna._study.trials) == 60 - n_failed
    late = [d["misc"]["vals"] for d in trials.trials[40:]]
    assert np.median([abs(v["x"][0]) for v in late]) < 1
    assert all(2 <= v["inner"][0] < 5 for v in late if v["inner"])


# -- statistics --------------------------------------------------------------------------------------------


def row(algo: str, seed: int, curve: list[float], **more: Any) -> dict[str, Any]:
    return {
        "algo": algo,
        "problem": "p",
        "workers": 1,
        "seed": seed,
        "trials": len(curve),
        "regret": {str(cut): curve[cut - 1] for cut in (50, 100, 200) if cut <= len(curve)},
        "curve": curve,
        "duplicates": 1,
        "near": None,
        "suggest_s": 0.1,
        **more,
    }


def test_ranks_share_ties() -> None:
    assert search_report.ranks(np.array([[3.0], [1.0], [1.0]])).tolist() == [[3.0], [1.5], [1.5]]


def test_figures_of_a_report() -> None:
    medians = {"p": np.linspace(2, 1, 50)}
    quick = [4.0] * 9 + [0.5] * 41
    rows = [{"reference": "p", "trials": 50, "median": medians["p"].tolist()}]
    rows += [row("a", seed, quick) for seed in (0, 1)] + [row("b", seed, [4.0] * 50) for seed in (0, 1, 2)]
    group = search_report.common(rows[1:], ["a", "b"], 1)
    assert [r["seed"] for r in group["p"]["b"]] == [0, 1]  # the seeds that both have
    assert search_report.trials_to_reach(group, ["a", "b"], medians)[0].tolist() == [
        [10 / 50] * 2,
        [math.inf] * 2,
    ]
    text = "\n".join(search_report.report(rows, ["a", "b"]))
    assert "1 workers, 1 problems, 2 seeds" in text
    assert "| a | 0.500 | 0.500 | 1.00 | 0.20 | 100% | 2.00% |" in text
    assert "| b | 4.000 | 4.000 | 2.00 | - | 0% |" in text
    assert "| p | 0.50 (0.20), 2.0 ms | 4.00 (-), 2.0 ms |" in text
    assert text.count("| p (0.12) |") == text.count("| p (8.00) |") == 1


# -- the programs ------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_stopped(run, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    program = [sys.executable, BENCHMARKS / "search.py", "--trials", "50", "--problems", "steps,pipeline"]
    program += ["--seeds", "1", "--workers", "2", "--out", out, "--algos"]
    first = run([*program, "random", "--processes", "2"])
    assert first.returncode == 0, first.stderr
    with out.open("a") as file:
        file.write('{"algo": "ran')  # stopped in the middle of a line
    second = run([*program, "random,optuna", "--processes", "1"])
    assert second.returncode == 0, second.stderr
    assert "2/2" in second.stderr
    assert "### 2 workers, 2 problems, 1 seeds" in second.stdout
    assert "| optuna |" in second.stdout
    again = run([*program, "random,optuna", "--report"])
    assert again.stdout == second.stdout


def test_bad_arguments_are_named(run) -> None:
    program = [sys.executable, BENCHMARKS / "search.py"]
    assert "no problem 'branin'" in run([*program, "--problems", "branin"]).stderr
    assert "no algorithm 'nothing:at_all'" in run([*program, "--algos", "nothing:at_all"]).stderr


def test_latency_runs(run, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    program = [sys.executable, BENCHMARKS / "suggest_latency.py", "--dims", "5", "--finished", "25"]
    done = run([*program, "--json", figures])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2 + 3
    found = {(f["algo"], f["running"], f["at_once"]): f for f in json.loads(figures.read_text())}
    assert found["hyperopt.tpe:suggest", 0, 128]["one_by_one"]
    assert not found["optuna", 0, 128]["one_by_one"]
    assert all(figure["ms"] > 0 for figure in found.values())
