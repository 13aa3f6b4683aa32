"""Workers that have Python and cloudpickle alone: neither sparktune nor hyperopt nor numpy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import pyspark
import pytest

from tests.java import QUICK_JAVA

pytestmark = pytest.mark.system

STUDY = """
import json, sys
from pyspark.sql import SparkSession
from sparktune import BanditPolicy, SparkTrials, fmin, hp, report, tpe

spark = SparkSession.builder.getOrCreate()


class Model:
    def __init__(self, name):
        self.name, self.uses = name, 0


def objective(point):
    import importlib.util, sys
    model = point["model"]["kind"]
    model.uses += 1
    assert model.uses == 1, "each trial has its own"
    for step in range(3):
        report(point["x"] ** 2, step)
    lacking = [name for name in ("hyperopt", "numpy") if importlib.util.find_spec(name) is None]
    return {"loss": point["x"] ** 2, "status": "ok", "lacking": lacking, "python": sys.executable,
            "model": model.name, "half": point["half"]}


space = {
    "x": hp.uniform("x", -1, 1),
    "half": hp.quniform("q", 0, 10, 1) / 2,
    "model": hp.choice("model", [{"kind": Model("a")}, {"kind": Model("b"), "n": hp.randint("n", 5)}]),
}
trials = SparkTrials(2, spark_session=spark, early_termination=BanditPolicy(slack_factor=100.0))
fmin(objective, space, tpe.suggest, 6, trials=trials, rstate=1, show_progressbar=False)
frame = trials.to_dataframe()
results = [document["result"] for document in trials.trials]
print("TOLD " + json.dumps({
    "states": frame["state"].tolist(), "errors": frame["error"].tolist(), "steps": frame["steps"].tolist(),
    "lacking": [r.get("lacking") for r in results], "python": list({r.get("python") for r in results}),
    "models": [r.get("model") for r in results], "run": trials.run_id,
}))
"""


@pytest.mark.parametrize("master", ["local[2]", "local-cluster[2,1,1024]"])
def test_a_study_on_workers_without_packages(
    master: str, bare: Path, run: Any, tmp_path: Path, mlflow_store: str
) -> None:
    (tmp_path / "study.py").write_text(STUDY)
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    settings = {
        "spark.pyspark.python": bare,
        "spark.pyspark.driver.python": sys.executable,
        "spark.ui.enabled": "false",
        "spark.executor.memory": "512m",
        "spark.executor.extraJavaOptions": QUICK_JAVA,
    }
    options = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    done = run(
        [submit, "--master", master, *options, tmp_path / "study.py"],
        env={
            "MLFLOW_TRACKING_URI": mlflow_store,
            "MLFLOW_EXPERIMENT_NAME": "tests",
            "SPARK_HOME": str(Path(pyspark.__file__).parent),
            "PYSPARK_PYTHON": "",
            "PYTHONPATH": "",
        },
    )
    assert done.returncode == 0, done.stderr[-5000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    told = json.loads(line.removeprefix("TOLD "))
    assert told["states"] == ["completed"] * 6, told["errors"]
    assert told["steps"] == [3] * 6
    assert told["lacking"] == [["hyperopt", "numpy"]] * 6
    assert told["python"] == [str(bare)]
    assert set(told["models"]) <= {"a", "b"}
    children = mlflow.MlflowClient().search_runs(
        [mlflow.get_run(told["run"]).info.experiment_id], f"tags.`mlflow.parentRunId` = '{told['run']}'"
    )
    assert len(children) == 6
