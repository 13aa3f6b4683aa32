"""Where Spark copies slow tasks to other machines: a trial's copy waits until its first worker is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.standalone import Cluster, cluster_in
from tests.test_standalone_cluster import BEGIN

pytestmark = pytest.mark.system

COPIES = """
for key, value in ("", "true"), (".interval", "100ms"), (".task.duration.threshold", "1s"):
    builder = builder.config("spark.speculation" + key, value)
builder.getOrCreate()


class Watch(logging.Handler):
    def emit(self, record):
        found = re.match(r"trial (\\d+): Spark has copied its task", record.getMessage())
        if found:
            (folder / f"copied {found[1]}").touch()


logger = logging.getLogger("sparktune")
logger.addHandler(Watch())
logger.setLevel(logging.INFO)


def fn(value):
    number, _, kind = value.partition(" ")
    began, span = folder / f"began {number}", time.time()
    with began.open("a") as file:
        file.write("x")
    attempt = len(began.read_text())
    while not (folder / f"copied {number}").exists() and len(began.read_text()) == 1:
        time.sleep(0.05)
    for step in range(5):
        report(10.0 if kind == "weak" else 1.0, step)
        if kind == "dies" and attempt == 1 and step == 2:
            psutil.Process().kill()
    return {"loss": 1.0, "status": "ok", "span": [span, time.time()]}


def copied(name, *values, max_attempts):
    global folder
    folder = pathlib.Path(sys.argv[2]) / name
    folder.mkdir()
    policy = BanditPolicy(slack_amount=1, delay_evaluation=3)
    trials = SparkTrials(1, max_attempts=max_attempts, mlflow=False, early_termination=policy)
    study(fn, [f"{i} {value}" for i, value in enumerate(values)], trials)
    began = [len(path.read_text()) for path in sorted(folder.glob("began *"))]
    print(f"BEGAN {began}", flush=True)


copied("once", "fine", "weak", max_attempts=1)
copied("twice", "dies", max_attempts=2)
copied("limit", "dies", "fine", max_attempts=1)
"""


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, clean_env: Mapping[str, str]) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster"), clean_env) as cluster:
        yield cluster


def test_a_copy_of_a_trial_waits_for_its_loss(cluster: Cluster, tmp_path: Path) -> None:
    for host in "127.0.0.1", "127.0.0.2":
        cluster.add_worker(cores=1, host=host)
    driver = cluster.drive(BEGIN + COPIES, tmp_path)
    for trial_id in 0, 1:
        driver.until(f"sparktune: trial {trial_id}: Spark has copied its task; the copy waits")
    once = json.loads(driver.until("TOLD (.*)")[1])
    assert json.loads(driver.until("BEGAN (.*)")[1]) == [1, 1]
    assert once["state"] == {"0 fine": "completed", "1 weak": "early_terminated"}
    assert set(once["attempts"].values()) == {1}
    assert once["steps"]["0 fine"] == 5
    assert not [line for line in driver.lines if "was lost" in line]

    twice = json.loads(driver.until("TOLD (.*)")[1])
    assert json.loads(driver.until("BEGAN (.*)")[1]) == [2]
    assert (twice["state"], twice["attempts"], twice["steps"]) == (
        {"0 dies": "completed"},
        {"0 dies": 2},
        {"0 dies": 5},
    )
    assert sum("was lost" in line for line in driver.lines) == 1

    limit = json.loads(driver.until("TOLD (.*)")[1])
    assert json.loads(driver.until("BEGAN (.*)")[1]) == [1, 1]
    assert limit["state"] == {"0 dies": "failed", "1 fine": "completed"}
    assert sum("was lost" in line for line in driver.lines) == 1
    assert any("in attempt 1 of 1" in line for line in driver.lines)
    assert driver.wait() == 0
