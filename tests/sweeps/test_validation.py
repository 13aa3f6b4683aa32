"""Errors name the place, the value and what is allowed."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from sparktune.errors import InvalidSweep
from sparktune.sweeps.document import parse
from sparktune.sweeps.sweep import Sweep
from tests.sweeps.files import DATA, FILE, complaints, data, sweep


def test_a_good_file() -> None:
    found = sweep(FILE)
    assert found.notes == ()
    assert found.definition.limits.max_total_trials == 4
    assert "1 parameters, random, at most 4 trials, maximize accuracy" in repr(found)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("type: sweep", "type: command", "1:7: type is 'command'; allowed: sweep"),
        ("trial:", "trail:", "1:1: the file needs the field 'trial'"),
        ("trial:", "trail:", "2:1: the file has no field 'trail'; did you mean 'trial'?; allowed: type, "),
        ("trial:", "comptue: x\ntrial:", "2:1: the file has no field 'comptue'; did you mean 'compute'?"),
        (
            "uniform",
            "unifrom",
            "5:9: search_space.rate.type is 'unifrom'; did you mean 'uniform'?; allowed: choice,",
        ),
        (
            "type: uniform, ",
            "",
            "5:9: search_space.rate is {'min_value': 0, 'max_value': 1}; it needs the field 'ty",
        ),
        (
            "min_value: 0",
            "min_value: 2",
            "5:36: search_space.rate.min_value: min_value is 2; it must be less",
        ),
        ("min_value: 0", "min_value: .nan", "search_space.rate.min_value is nan; it must be a finite number"),
        ("min_value: 0", "min_value: low", "search_space.rate.min_value is 'low'; it must be a number"),
        ("min_value: 0, ", "", "5:3: search_space.rate needs the field 'min_value'"),
        ("max_value: 1", "upper: 1", "5:39: search_space.rate has no field 'upper'; allowed: min_value, max"),
        ("uniform", "loguniform, q: 1", "search_space.rate has no field 'q'"),
        ("uniform", "quniform, q: 0", "search_space.rate.q is 0; it must be greater than 0"),
        (
            "{type: uniform, min_value: 0, max_value: 1}",
            "{type: choice, values: []}",
            "values is []; it must not",
        ),
        (
            "{type: uniform, min_value: 0, max_value: 1}",
            "{type: randint, upper: 0}",
            "upper is 0; it must be at ",
        ),
        (
            "{type: uniform, min_value: 0, max_value: 1}",
            "{type: randint, upper: 2.5}",
            "it must be a whole number",
        ),
        ("{type: uniform, min_value: 0, max_value: 1}", "uniform", "search_space.rate is 'uniform'; it "),
        ("objective:", "  x: 1\nobjective:", "6:6: search_space.x is 1; it"),
        (
            "goal: maximize",
            "goal: maximise",
            "6:45: objective.goal is 'maximise'; did you mean 'maximize'?; allow",
        ),
        ("primary_metric: accuracy", "primary_metric: loss", "objective.goal: 'loss' is what is minimized"),
        ("primary_metric: accuracy", "primary_metric: 5", "primary_metric is 5; it must be text"),
        (
            "max_total_trials: 4",
            "max_total_trials: 0",
            "7:28: limits.max_total_trials is 0; it must be at least 1",
        ),
        (
            "max_total_trials: 4",
            "max_total_trials: 1001",
            "7:28: limits.max_total_trials is 1001; it must be at mo",
        ),
        (
            "max_total_trials: 4",
            "max_total_trails: 4",
            "'max_total_trails'; did you mean 'max_total_trials'?",
        ),
        ("max_total_trials: 4", "timeout: 0", "limits.timeout is 0; it must be greater than 0"),
        ("max_total_trials: 4", "timeout: true", "limits.timeout is True; it must be a number"),
        ("{max_total_trials: 4}", "4", "limits is 4; it must be a mapping"),
        (
            "search_space.rate",
            "search_space.rat",
            "3:12: trial.command: ${{search_space.rat}}: there is no such nam",
        ),
        ("search_space.rate", "inputs.data", "${{inputs.data}}: there is no such name; inputs is empty"),
        ("search_space.rate", "search_spaces.rate", "has no meaning; did you mean 'search_space'?"),
        ("${{search_space.rate}}", "${{search_space.rate}", "a reference cannot be read"),
        ("train.py", "'train.py", "trial.command: the command cannot be split"),
        ("train.py", "train.py | tee log", "'|' (a pipe) needs a shell: set shell: true under trial"),
        ("train.py", "train.py $HOME", "'$' (an expansion) needs a shell"),
        ("command: python", "function: python", "trial.function is 'python train.py"),
        (
            "  command:",
            "  function: a:b\n  command:",
            "3:3: trial: it needs exactly one of command and function",
        ),
        ("  command:", "  code: nowhere\n  command:", "3:9: trial.code: 'nowhere' is not a folder"),
        (
            "limits:",
            "sampling_algorithm: grid\nlimits:",
            "search_space.rate.type: grid needs finitely many values",
        ),
        (
            "limits:",
            "sampling_algorithm: byesian\nlimits:",
            "'byesian' is not an algorithm; did you mean 'bayesian'?",
        ),
        ("limits:", "sampling_algorithm: {type: grid, rule: sobol}\nlimits:", "only random has a rule"),
        ("limits:", "early_termination: {type: bandit}\nlimits:", "needs exactly one of slack_factor"),
        ("limits:", "early_termination: {type: median}\nlimits:", "did you mean 'median_stopping'?"),
        (
            "limits:",
            "early_termination: median_stopping\nlimits:",
            "early_termination is 'median_stopping'; it",
        ),
        (
            "limits:",
            "early_termination: {type: truncation_selection}\nlimits:",
            "needs the field 'truncation_pe",
        ),
        ("limits:", "parallelism: 2\nlimits: {max_concurrent_trials: 3}\nx:", "the file has no field 'x'"),
        ("limits: {", "parallelism: 2\nlimits: {max_concurrent_trials: 3, ", "give one of them"),
        ("limits:", "inputs: {data: {path: 'azureml:x:1'}}\nlimits:", "is an asset of an Azure workspace"),
        ("limits:", "inputs: {data: [1]}\nlimits:", "inputs.data is [1]; it"),
        ("limits:", "tags: [a]\nlimits:", "tags is ['a']; it must be a mapping"),
        (
            "limits:",
            "tags: {mlflow.parentRunId: x}\nlimits:",
            "tags.mlflow.parentRunId: sparktune sets this tag",
        ),
        ("limits:", "tags: {sparktune.role: x}\nlimits:", "tags.sparktune.role: sparktune sets this tag"),
        ("limits:", "tags: {fmin_uuid: x}\nlimits:", "tags.fmin_uuid: sparktune sets this tag"),
        ("limits:", "tags: {mlflow.rootRunId: x}\nlimits:", "tags.mlflow.rootRunId: sparktune sets this tag"),
        (
            "limits:",
            "inputs: {data: {path: no/a.csv}}\nlimits:",
            "inputs.data.path: 'no/a.csv' does not exist",
        ),
        ("limits:", "outputs: {../x: {type: uri_folder}}\nlimits:", "a name must have letters"),
        ("  command:", "  inputs: {a: 1}\n  command:", "'inputs'; it belongs beside trial, not in it"),
        ("search_space.rate", "outputs.rate", "${{outputs.rate}}: there is no such name; outputs is empty"),
        ("command: python", "command: LEVEL=1 python", "'LEVEL=' (an environment variable) needs a shell"),
    ],
)
def test_each_error_names_its_place_and_the_remedy(old, new, complaint) -> None:
    assert old in FILE
    found = complaints(FILE.replace(old, new, 1))
    assert any(complaint in line for line in found), found
    assert all(re.match(r"sweep\.yml:\d+:\d+: ", line) for line in found)


@pytest.mark.parametrize("text", ["", "[]", "sweep", "5", "null"])
def test_no_mapping_at_all(text) -> None:
    assert complaints(text)[0].startswith("sweep.yml:1:1: the file is ")


def test_all_errors_are_told_at_once_in_their_order() -> None:
    text = (
        FILE.replace("goal: maximize", "goal: up").replace("trials: 4", "trials: 0").replace("uniform", "x")
    )
    assert [line.split(":")[1] for line in complaints(text)] == ["5", "6", "7"]


def test_fields_of_azures_that_mean_nothing_here_are_told() -> None:
    text = f"$schema: https://x\ncompute: azureml:cpu\n{FILE}".replace(
        "trial:\n", "trial:\n  environment: azureml:e@latest\n  resources: {instance_count: 2}\n"
    )
    found = sweep(text).notes
    assert "sweep.yml:2:1: compute is ignored: trials run where the Spark session runs" in found
    assert sum("is ignored" in note for note in found) == 3


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            FILE.replace("uniform, min_value: 0", "loguniform, min_value: 1e-5"),
            "for 1e-05 to 1 write -11.51 and 0",
        ),
        (
            FILE.replace("limits: {max_total_trials: 4}", ""),
            "no max_total_trials: the sweep runs 1000 trials",
        ),
        (
            FILE.replace("python train.py --rate ${{search_space.rate}}", 'sh -c "a ${{search_space.rate}}"'),
            "trial.command: a shell inside the command",
        ),
        (FILE.replace("${{search_space.rate}}", "1"), "it does not use rate, which it finds in environment"),
        (f"inputs: {{a: {{path: /no/a.csv}}}}\n{FILE}", "inputs.a.path: '/no/a.csv' is not on this machine"),
        (FILE.replace("trials: 4", "trials: 4, timeout: 5, trial_timeout: 6"), "it is longer than timeout"),
    ],
)
def test_what_looks_wrong_is_told(text, note) -> None:
    assert any(note in each for each in sweep(text).notes)


def test_from_python_the_field_is_the_place() -> None:
    with pytest.raises(InvalidSweep, match=r"^the sweep: limits.max_total_trials is 0; it"):
        Sweep.from_dict(data(limits={"max_total_trials": 0}))


def test_a_file_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(InvalidSweep, match=r"nothing\.yml: the file cannot be read: No such file"):
        Sweep.from_yaml(tmp_path / "nothing.yml")
    with pytest.raises(InvalidSweep, match="cannot be read"):
        Sweep.from_yaml("a\0b")


# -- a thousand bad files ------------------------------------------------------------------------------

words = st.sampled_from(
    ["", "type", "sweep", "uniform", "choice", "grid", "bandit", "random", "x", "ü\n'", "\0", "\ud800"]
)
scalars = (
    words
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        [0, -1, 1e400, 10**400, "1e5", "${{search_space.rate}}", "${{", "${{inputs.x}}", "azureml:x"]
    )
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)
FULL = data(
    name="n",
    display_name="d",
    experiment_name="e",
    description="t",
    tags={"a": "b"},
    inputs={"x": 1, "y": {"path": "https://p", "type": "uri_file"}},
    trial={
        "command": "a ${{search_space.rate}}",
        "environment_variables": {"A": "${{inputs.x}}"},
        "shell": True,
    },
    search_space={
        "rate": {"type": "uniform", "min_value": 0, "max_value": 1},
        "c": {"type": "choice", "values": [1, "a"]},
        "n": {"type": "qlognormal", "mu": 0, "sigma": 1, "q": 1},
        "r": {"type": "randint", "upper": 3},
    },
    sampling_algorithm={"type": "random", "seed": 1, "rule": "sobol"},
    early_termination={
        "type": "bandit",
        "slack_factor": 0.1,
        "evaluation_interval": 1,
        "delay_evaluation": 5,
    },
    limits={"max_total_trials": 4, "max_concurrent_trials": 2, "timeout": 5, "trial_timeout": 1},
    parallelism=2,
    tracking_uri="u",
    resume="last",
)


def places(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [path, *(found for step, value in steps for found in places(value, (*path, step)))]


@st.composite
def changed_files(draw: Any) -> Any:
    """The full file with one to three changes: a value, a field removed, a field added or renamed."""
    root: Any = {"file": copy.deepcopy(FULL)}
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(root)[1:]))
        *inner, last = path
        at: Any = root
        for step in inner:
            at = at[step]
        match draw(st.sampled_from(["value", "remove", "add", "rename"])):
            case "value":
                at[last] = draw(anything)
            case "remove" if path != ("file",):
                del at[last]
            case "add" if isinstance(at[last], dict):
                at[last][draw(words)] = draw(anything)
            case "rename" if isinstance(at, dict) and path != ("file",):
                at[draw(words)] = at.pop(last)
            case _:
                pass
    return root["file"]


HAS_PLACE = re.compile(r"sweep\.yml:\d+:\d+: \S")


def check(text: str | bytes) -> bool:
    """Whether a file is refused; every line of what is said has a place."""
    try:
        Sweep._of(parse(text, "sweep.yml"))
    except InvalidSweep as error:
        said = str(error)
        said.encode()
        assert said
        for line in said.splitlines():
            assert HAS_PLACE.match(line), said
        assert "Traceback" not in said
        return True
    return False


def test_changed_files_are_taken_or_refused_with_a_place() -> None:
    n_refused = 0

    @settings(max_examples=1700, deadline=None, suppress_health_check=list(HealthCheck))
    @given(changed_files())
    def try_one(content: Any) -> None:
        nonlocal n_refused
        n_refused += check(json.dumps(content))  # which is YAML, and written quickly

    try_one()
    assert n_refused >= 1000


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, len(FILE)),
    st.text(max_size=4) | st.sampled_from(["\t", "\0", "[", "}", ":", "&a", "*a", "!x ", "- "]),
    st.integers(0, 6),
)
def test_damaged_text_is_taken_or_refused_with_a_place(at, inserted, removed) -> None:
    check(FILE[:at] + inserted + FILE[at + removed :])


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(anything)
def test_data_from_python_is_taken_or_refused(content) -> None:
    for name in DATA:
        said = "the sweep"
        try:
            Sweep.from_dict({**DATA, name: content})
        except InvalidSweep as error:
            said = str(error)
        assert said.startswith("the sweep")
