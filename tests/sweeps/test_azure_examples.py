"""Files as Azure's documentation describes them, written for this test: taken, or told what they lack."""

from __future__ import annotations

import pytest

from sparktune.errors import InvalidSweep
from tests.sweeps.files import complaints, sweep

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
