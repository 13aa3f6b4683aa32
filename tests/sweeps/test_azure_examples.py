"""Files as Azure's documentation describes them, written for this test: taken, or told what they lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparktune.errors import InvalidSweep
from sparktune.sweeps.sweep import Sweep
from tests.sweeps.files import complaints, sweep

pytestmark = pytest.mark.unit

BEGIN = """\
$schema: https://azuremlschemas.azureedge.net/latest/sweepJob.schema.json
type: sweep
experiment_name: forest
display_name: forest by depth
description: Which depth suits the cover types.
tags: {owner: team b, cost: 12}
compute: azureml:cpu-pool
queue_settings: {job_tier: standard}
trial:
  command: >-
    python fit.py
    --depth ${{search_space.depth}}
    --share ${{search_space.share}}
    --table ${{inputs.table}}
  environment: azureml:forest-env@latest
  environment_variables: {LEVEL: debug}
  distribution: {type: pytorch, process_count_per_instance: 1}
inputs:
  table: {type: uri_file, path: "https://example.org/covers.csv", mode: ro_mount}
search_space:
  depth: {type: choice, values: [2, 4, 8]}
  share: DISTRIBUTION
objective: {goal: minimize, primary_metric: log_loss}
limits: {max_total_trials: 30, max_concurrent_trials: 6, timeout: 7200, trial_timeout: 600}
"""
UNIFORM = "{type: uniform, min_value: 0.1, max_value: 0.9}"


@pytest.mark.parametrize(
    "distribution",
    [
        UNIFORM,
        "{type: choice, values: [0.1, 0.5]}",
        "{type: randint, upper: 9}",
        "{type: quniform, min_value: 0, max_value: 1, q: 0.05}",
        "{type: loguniform, min_value: -6, max_value: -1}",
        "{type: qloguniform, min_value: -2, max_value: 3, q: 0.5}",
        "{type: normal, mu: 10, sigma: 3}",
        "{type: qnormal, mu: 10, sigma: 3, q: 1}",
        "{type: lognormal, mu: 0, sigma: 1}",
        "{type: qlognormal, mu: 0, sigma: 1, q: 1}",
    ],
)
def test_every_distribution(distribution) -> None:
    found = sweep(BEGIN.replace("DISTRIBUTION", distribution))
    told = [note.partition(": ")[2].partition(" is ignored")[0] for note in found.notes if "ignored" in note]
    assert sorted(told) == [
        "compute",
        "inputs.table.mode",
        "queue_settings",
        "trial.distribution",
        "trial.environment",
    ]


@pytest.mark.parametrize(
    "sampling",
    [
        "random",
        "bayesian",
        "{type: random}",
        "{type: random, seed: 123}",
        "{type: random, seed: 123, rule: sobol}",
        "{type: random, rule: random}",
        "{type: bayesian}",
    ],
)
def test_every_sampling(sampling) -> None:
    sweep(f"sampling_algorithm: {sampling}\n" + BEGIN.replace("DISTRIBUTION", UNIFORM))


def test_grid_takes_choices_only_and_says_where_it_finds_another() -> None:
    text = "sampling_algorithm: grid\n" + BEGIN
    sweep(text.replace("DISTRIBUTION", "{type: choice, values: [1, 2]}"))
    assert (
        "23:17: search_space.share.type: grid needs finitely many"
        in complaints(text.replace("DISTRIBUTION", UNIFORM))[0]
    )


@pytest.mark.parametrize(
    "policy",
    [
        "{type: bandit, slack_factor: 0.1, evaluation_interval: 1, delay_evaluation: 5}",
        "{type: bandit, slack_amount: 0.2, evaluation_interval: 2}",
        "{type: median_stopping, delay_evaluation: 5, evaluation_interval: 1}",
        "{type: truncation_selection, truncation_percentage: 20, evaluation_interval: 1, "
        "delay_evaluation: 5, exclude_finished_jobs: true}",
    ],
)
def test_every_policy(policy) -> None:
    assert sweep(
        f"early_termination: {policy}\n" + BEGIN.replace("DISTRIBUTION", UNIFORM)
    ).definition.early_termination


def test_what_is_missing_here_is_named() -> None:
    text = BEGIN.replace("DISTRIBUTION", UNIFORM).replace(
        "https://example.org/covers.csv", "azureml:covers:1"
    )
    with pytest.raises(
        InvalidSweep, match=r"sweep.yml:19:\d+: inputs.table.path: .*asset of an Azure workspace"
    ):
        sweep(text)


@pytest.mark.parametrize("goal", ["Maximize", "MINIMIZE", "minimize"])
def test_the_goal_in_any_case(goal) -> None:
    text = BEGIN.replace("DISTRIBUTION", UNIFORM).replace("goal: minimize", f"goal: {goal}")
    assert sweep(text).definition.objective.goal == goal.lower()


JOB = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
type: command
display_name: one fit
code: ./src
command: python fit.py --share ${{search_space.share}} --table ${{inputs.table}} --to ${{outputs.model}}
environment: azureml:forest-env@latest
inputs:
  table: {type: uri_file, path: covers.csv}
  depth: {type: integer, default: 3}
  other: {type: number}
outputs:
  model: {type: uri_folder, mode: upload}
"""
OF_A_FILE = """\
type: sweep
trial: job/train.yml
inputs: {depth: 5}
search_space: {share: {type: uniform, min_value: 0, max_value: 1}}
objective: {goal: minimize, primary_metric: log_loss}
limits: {max_total_trials: 30}
"""


def test_a_trial_in_its_own_file(tmp_path: Path) -> None:
    """Its paths are relative to that file, errors in it have their places there, the sweep's inputs win."""
    job, file = tmp_path / "job" / "train.yml", tmp_path / "sweep.yml"
    (tmp_path / "job" / "src").mkdir(parents=True)
    (tmp_path / "job" / "covers.csv").touch()
    job.write_text(JOB)
    file.write_text(OF_A_FILE)
    found = Sweep.from_yaml(file, ["trial.environment_variables.LEVEL=debug"])
    assert found.definition.inputs.keys() == {"table", "depth"}
    assert found.definition.inputs["depth"] == 5
    assert found.definition.trial.environment_variables == {"LEVEL": "debug"}
    assert found._objective().outputs == {"model": True}
    assert found._objective().inputs["table"] == str(job.parent / "covers.csv")
    assert found._code == tmp_path / "job" / "./src"
    assert [note.split(": ")[:2] for note in found.notes] == [
        [f"{job}:6:1", "trial.environment is ignored"],
    ]
    job.write_text(JOB.replace("command:", "comand:"))
    with pytest.raises(InvalidSweep, match=rf"{job}:5:1: trial has no field 'comand'; did you mean"):
        Sweep.from_yaml(file)
    job.write_text(JOB.replace("type: command", "type: pipeline"))
    with pytest.raises(InvalidSweep, match=rf"{job}:2:7: trial is in this file; it must be of type: command"):
        Sweep.from_yaml(file)
    job.unlink()
    with pytest.raises(
        InvalidSweep, match=r"sweep.yml:2:8: trial is 'job/train.yml'; the file cannot be read"
    ):
        Sweep.from_yaml(file)
    file.write_text(OF_A_FILE.replace("job/train.yml", "train"))
    with pytest.raises(InvalidSweep, match=r"trial is 'train'; it must be a mapping, or the name of a file"):
        Sweep.from_yaml(file)
