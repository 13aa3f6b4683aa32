"""Sweeps on real Spark and a real MLflow store: values, metrics, policies, failures, and what stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

from sparktune import AllTrialsFailed, Sweep, fmin, hp, rand, report
from sparktune.backends.simulated import SimulatedBackend
from sparktune.early_termination import Decision
from sparktune.study.backend import Backend
from sparktune.sweeps.results import Results
from sparktune.sweeps.trials import SweepTrials
from sparktune.worker.objective import Objective
from tests.conftest import needs_classic
from tests.processes import is_over
from tests.sweeps.files import code_folder, command_sweep, data
from tests.sweeps.test_command import FAMILY, LAST_WORDS
from tests.sweeps.test_references import NASTY

pytestmark = [pytest.mark.system, needs_classic]


def by_value(trials: Any) -> dict[Any, Any]:
    frame = trials.to_dataframe()
    return {str(row["value"]): row for _, row in frame.iterrows()}


def artifacts(run_id: str) -> dict[str, str]:
    client = mlflow.MlflowClient()
    folder = Path(client.download_artifacts(run_id, ""))
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


LAST_FILES = {
    "logs/stdout.log": "ready\nasked to end\nthe last word\n",
    "logs/stderr.log": "asked, too\n",
    "outputs/saved": "the model",
}
"""What ``LAST_WORDS`` leaves."""


def only_trial() -> str:
    """The run of the one trial of the one study in the store."""
    filter_string = "tags.`sparktune.trial_id` = '0'"
    runs = mlflow.search_runs(search_all_experiments=True, filter_string=filter_string, output_format="list")
    (run,) = runs
    assert run.info.status == "KILLED"
    return str(run.info.run_id)


def test_values_of_any_kind_arrive_exactly_and_execute_nothing(spark, mlflow_store, tmp_path) -> None:
    source = """
        import json, os, sys
        os.makedirs("outputs")
        with open("outputs/got.json", "w") as file:
            json.dump([sys.argv[1:], os.environ["SPARKTUNE_PARAM_value"], sorted(os.listdir())], file)
        print("score=1")
    """
    values = [*NASTY, 0.1, 7, True, [1, "ü"]]
    sweep = command_sweep(
        tmp_path, source, values, arguments="${{search_space.value}} --x=${{search_space.value}}",
        objective={"primary_metric": "score", "goal": "minimize"},
    )  # fmt: skip
    trials = sweep.run(spark, show_progressbar=False)
    assert trials.counts()["completed"] == len(values)
    texts = [*NASTY, "0.1", "7", "True", '[1, "ü"]']
    got = [json.loads(artifacts(run_id)["outputs/got.json"]) for run_id in trials.to_dataframe()["run_id"]]
    assert sorted(got) == sorted([[text, f"--x={text}"], text, ["outputs", "train.py"]] for text in texts)
    told = [row.params["value"] for row in Results.of(trials.run_id).study.trials]
    assert told == [*values[:-1], json.dumps(values[-1])]


MIXED = """
import os, sys
kind = sys.argv[1]
print("ready", kind)
print("to stderr", file=sys.stderr)
if kind == "fails":
    sys.exit("the reason")
if kind == "silent":
    sys.exit()
if kind == "logs":
    import mlflow
    assert mlflow.active_run() is None
    for step in range(3):
        mlflow.log_metric("score", step, step=step)
    mlflow.log_param("own", 1)
    sys.exit()
print("score=0.5", "score=0.25", sep="\\n")
"""


def test_metrics_logs_and_failures(spark, mlflow_store, tmp_path) -> None:
    sweep = command_sweep(
        tmp_path, MIXED, ["prints", "logs", "fails", "silent"],
        objective={"primary_metric": "score", "goal": "maximize"}, display_name="the name",
        description="what for", tags={"team": "a", "n": 1}, experiment_name="of the file",
    )  # fmt: skip
    trials = sweep.run(spark, show_progressbar=False)
    rows = by_value(trials)
    assert {name: row["state"] for name, row in rows.items()} == {
        "prints": "completed", "logs": "completed", "fails": "failed", "silent": "failed",
    }  # fmt: skip
    assert rows["prints"]["loss"] == -0.25
    assert rows["logs"]["loss"] == -2.0
    assert "exit code 1; its stderr ends with: to stderr the reason" in rows["fails"]["error"]
    assert "reported no metric 'score'" in rows["silent"]["error"]
    assert trials.best_params == {"value": "logs"}

    parent = mlflow.get_run(trials.run_id)
    assert parent.info.run_name == "the name"
    assert mlflow.get_experiment(parent.info.experiment_id).name == "of the file"
    assert parent.data.tags["mlflow.note.content"].startswith("what for\n\n**Best: score 2, loss -2**")
    assert (parent.data.tags["team"], parent.data.tags["n"]) == ("a", "1")
    assert parent.data.tags["best_value"] == "logs"
    statuses = {name: mlflow.get_run(row["run_id"]).info.status for name, row in rows.items()}
    assert statuses == {"prints": "FINISHED", "logs": "FINISHED", "fails": "FAILED", "silent": "FAILED"}
    logged = mlflow.get_run(rows["logs"]["run_id"])
    assert logged.data.params == {"value": "logs", "own": "1"}
    series = mlflow.MlflowClient().get_metric_history(rows["prints"]["run_id"], "score")
    assert [point.value for point in series][:2] == [0.5, 0.25]
    for row in rows.values():
        kept = artifacts(row["run_id"])
        assert kept["logs/stdout.log"].startswith("ready")
        assert kept["logs/stderr.log"].startswith("to stderr")

    results = Results.of(trials.run_id)
    assert results.best.params == {"value": "logs"}
    table = results.table()
    assert "2 completed" in table
    assert "2 failed" in table
    assert "best trial" in table
    mlflow.set_experiment("tests")


def test_weak_trials_end_early_by_printed_lines_and_by_mlflow(spark, mlflow_store, tmp_path) -> None:
    """The weak ones would run for ever."""
    source = """
        import sys, time
        how, _, rank = sys.argv[1].partition(" ")
        good = rank == "good"
        def tell(step):
            if how == "log":
                import mlflow
                mlflow.log_metric("score", 1.0 if good else 0.0, step=step)
            else:
                print(f"score={1.0 if good else 0.0} step={step}")
        for step in range(1, 4):
            tell(step)
        while not good:
            time.sleep(0.1)
            step += 1
            tell(step)
    """
    sweep = command_sweep(
        tmp_path, source, ["print good", "log good", "print weak", "log weak"],
        objective={"primary_metric": "score", "goal": "maximize"},
        early_termination={"type": "bandit", "slack_amount": 0.5, "delay_evaluation": 2},
        watch_interval=0.5,
    )  # fmt: skip
    rows = by_value(sweep.run(spark, show_progressbar=False))
    assert {name: row["state"] for name, row in rows.items()} == {
        "print good": "completed", "log good": "completed",
        "print weak": "early_terminated", "log weak": "early_terminated",
    }  # fmt: skip
    assert "score=0.0 step=1" in artifacts(rows["print weak"]["run_id"])["logs/stdout.log"]


class AtOnce(SweepTrials):
    """Trials of a sweep that run in this process, one after another."""

    def _backend(self, objective: Objective) -> Backend:
        return SimulatedBackend(objective)


class StopTheFirst:
    def decide(self, trial_id: int, _curves: Any, _goal: str) -> Decision | None:
        return Decision("the first", 1, 1.0, 2.0) if trial_id == 0 else None


def test_the_end_of_a_trial_whose_loss_is_settled_later_is_logged_once(spark, caplog) -> None:
    def objective(x):
        report(0.25)
        return {"status": "ok", "auc": 0.25}

    options = {"metric": "auc", "goal": "maximize", "early_termination": StopTheFirst()}
    trials = AtOnce(parallelism=1, spark_session=spark, mlflow=False, **options)
    with caplog.at_level("INFO", "sparktune"):
        fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 3, trials=trials, show_progressbar=False)
    assert list(trials.to_dataframe()["loss"]) == [-0.25] * 3
    ends = [record.message for record in caplog.records if record.message.startswith("trial ")]
    assert [message.partition(":")[0] for message in ends] == ["trial 0", "trial 1", "trial 2"]


@pytest.mark.parametrize(("how", "limit"), [("trial_timeout", 6.0), ("timeout", 8.0)])
def test_nothing_stays_after_a_time_limit_but_what_it_said(how, limit, spark, mlflow_store, tmp_path) -> None:
    """A child of its process group ignores SIGTERM: it has its three seconds to the end."""
    source = FAMILY + LAST_WORDS
    sweep = command_sweep(
        tmp_path, source, [str(tmp_path / "a")], objective={"primary_metric": "score", "goal": "maximize"},
        limits={how: limit},
    )  # fmt: skip
    with pytest.raises(AllTrialsFailed):
        sweep.run(spark, show_progressbar=False)
    pids = [int(pid) for pid in (tmp_path / "a").read_text().split()]
    assert len(pids) == 4
    assert [pid for pid in pids if not is_over(pid)] == []
    assert artifacts(only_trial()) == LAST_FILES


def test_nothing_stays_of_a_worker_that_is_killed_and_its_trial_is_run_again(
    spark, mlflow_store, tmp_path
) -> None:
    """The command itself kills the Python worker, its guardian's parent, with -9."""
    source = (
        FAMILY
        + """
guardian = os.getppid()
worker = int(open(f"/proc/{guardian}/stat").read().rpartition(")")[2].split()[1])
if not os.path.exists(sys.argv[1] + " again"):
    os.rename(sys.argv[1], sys.argv[1] + " again")
    os.kill(worker, signal.SIGKILL)
    time.sleep(3600)
print("score=1")
"""
    )
    sweep = command_sweep(
        tmp_path, source, [str(tmp_path / "a")], objective={"primary_metric": "score", "goal": "maximize"}
    )
    trials = sweep.run(spark, show_progressbar=False)
    assert trials.to_dataframe()["attempts"].tolist() == [2]
    pids = [int(pid) for name in ("a", "a again") for pid in (tmp_path / name).read_text().split()]
    assert len(pids) == 8
    assert [pid for pid in pids if not is_over(pid)] == []


def test_a_sweep_goes_on_under_the_same_parent_run(spark, mlflow_store, tmp_path) -> None:
    options = {"objective": {"primary_metric": "score", "goal": "maximize"}}
    source = "import sys; print('score=' + sys.argv[1])"
    first = command_sweep(tmp_path, source, [1, 2, 3, 4], limits={"max_total_trials": 2}, **options)
    began = first.run(spark, show_progressbar=False)
    second = command_sweep(tmp_path, source, [1, 2, 3, 4], resume=began.run_id, **options)
    trials = second.run(spark, show_progressbar=False)
    assert trials.run_id == began.run_id
    assert sorted(loss for loss in trials.losses() if loss is not None) == [-4.0, -3.0, -2.0, -1.0]
    assert len(Results.of(trials.run_id).study.trials) == 4


EVERYTHING = """\
$schema: https://azuremlschemas.azureedge.net/latest/sweepJob.schema.json
type: sweep
name: all of it
compute: azureml:cpu-pool
tracking_uri: STORE
trial:
  command: python train.py --level ${{search_space.choice}} --table ${{inputs.table}}
  code: code
  environment: azureml:sklearn-env@latest
  environment_variables: {LEVEL: "level ${{search_space.randint}}"}
inputs: {table: {type: uri_file, path: "https://example.org/covers.csv"}, epochs: 3}
search_space:
  choice: {type: choice, values: [a, b]}
  randint: {type: randint, upper: 9}
  uniform: {type: uniform, min_value: 1, max_value: 2}
  quniform: {type: quniform, min_value: 1, max_value: 9, q: 2}
  loguniform: {type: loguniform, min_value: 0, max_value: 1}
  qloguniform: {type: qloguniform, min_value: 1, max_value: 3, q: 0.5}
  normal: {type: normal, mu: 1000, sigma: 1}
  qnormal: {type: qnormal, mu: 1000, sigma: 10, q: 1}
  lognormal: {type: lognormal, mu: 10, sigma: 0.1}
  qlognormal: {type: qlognormal, mu: 10, sigma: 0.1, q: 1}
sampling_algorithm: {type: random, seed: 5, rule: sobol}
objective: {goal: minimize, primary_metric: log_loss}
early_termination: {type: truncation_selection, truncation_percentage: 20, delay_evaluation: 5}
limits: {max_total_trials: 4, max_concurrent_trials: 2, timeout: 7200, trial_timeout: 600}
"""
"""Azure's documented fields, all distributions among them."""


def test_a_file_of_azures_with_all_its_distributions_runs(spark, mlflow_store, tmp_path, monkeypatch) -> None:
    code_folder(tmp_path / "code", """
        import json, os, sys
        os.mkdir("outputs")
        names = "LEVEL", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_TOKEN"
        told = [json.loads(os.environ["SPARKTUNE_PARAMS"]), sys.argv[1:], *map(os.environ.get, names)]
        json.dump(told, open("outputs/told", "w"))
        print("log_loss=0.5")
    """)  # fmt: skip
    (tmp_path / "sweep.yml").write_text(EVERYTHING.replace("STORE", mlflow_store))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "the token")  # Spark runs without it
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'another.db'}")
    sweep = Sweep.from_yaml(tmp_path / "sweep.yml")
    assert sum("is ignored" in note for note in sweep.notes) == 2
    trials = sweep.run(spark, show_progressbar=False)
    assert trials.counts()["completed"] == 4
    mlflow.set_tracking_uri(mlflow_store)
    assert mlflow.get_run(trials.run_id).info.run_name == "all of it"
    for run_id in trials.to_dataframe()["run_id"]:
        x, argv, level, *rest = json.loads(artifacts(run_id)["outputs/told"])
        assert argv == ["--level", x["choice"], "--table", "https://example.org/covers.csv"]
        assert [level, *rest] == [f"level {x['randint']}", mlflow_store, run_id, "the token"]
        assert x["choice"] in ("a", "b")
        assert x["randint"] in range(9)
        assert 1 <= x["uniform"] <= 2
        assert x["quniform"] in (0, 2, 4, 6, 8)
        assert 1 <= x["loguniform"] <= 2.72
        assert x["qloguniform"] % 0.5 == 0
        assert 2.5 <= x["qloguniform"] <= 20.5
        assert 990 < x["normal"] < 1010
        assert 900 < x["qnormal"] < 1100
        assert all(isinstance(x[name], int) for name in ("quniform", "qnormal", "qlognormal"))
        assert 10_000 < x["lognormal"] < 45_000
        assert 10_000 < x["qlognormal"] < 45_000


def test_functions(spark, mlflow_store, tmp_path) -> None:
    code_folder(
        tmp_path / "code",
        "import helper_of_sweep\ndef fit(x, factor): return helper_of_sweep.twice(x) * factor",
        "train_of_sweep.py",
    )
    code_folder(tmp_path / "code", "def twice(x): return 2 * x", "helper_of_sweep.py")
    sweep = Sweep.from_dict(
        data(
            trial={"function": "train_of_sweep:fit", "code": "code"},
            inputs={"factor": 10},
            search_space={"x": {"type": "quniform", "min_value": 1, "max_value": 3, "q": 1}},
            sampling_algorithm="grid",
            objective={"primary_metric": "loss", "goal": "minimize"},
        ),
        tmp_path,
    )
    trials = sweep.run(spark, show_progressbar=False)
    assert sorted(trials.losses()) == [20.0, 40.0, 60.0]
    assert trials.best_params == {"x": 1}
