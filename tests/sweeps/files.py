"""Sweep files for tests."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparktune.errors import InvalidSweep
from sparktune.sweeps.document import parse
from sparktune.sweeps.sweep import Sweep

FILE = """\
type: sweep
trial:
  command: python train.py --rate ${{search_space.rate}}
search_space:
  rate: {type: uniform, min_value: 0, max_value: 1}
objective: {primary_metric: accuracy, goal: maximize}
limits: {max_total_trials: 4}
"""

DATA: dict[str, Any] = {
    "type": "sweep",
    "trial": {"command": "python train.py --rate ${{search_space.rate}}"},
    "search_space": {"rate": {"type": "uniform", "min_value": 0, "max_value": 1}},
    "objective": {"primary_metric": "accuracy", "goal": "maximize"},
    "limits": {"max_total_trials": 4},
}


def data(**changes: Any) -> dict[str, Any]:
    """A good sweep as data, with other fields."""
    return copy.deepcopy(DATA) | changes


def sweep(text: str, folder: str = ".") -> Sweep:
    """The sweep of a file with this text, called ``sweep.yml``."""
    document = parse(text, "sweep.yml")
    document.folder = folder
    return Sweep._of(document)


def complaints(text: str) -> list[str]:
    """What is said of a file that is wrong."""
    try:
        sweep(text)
    except InvalidSweep as error:
        return str(error).splitlines()
    raise AssertionError("the file was taken")


def code_folder(folder: Path, source: str, name: str = "train.py") -> Path:
    """A folder with one program."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(textwrap.dedent(source), encoding="utf-8")
    return folder


def command_sweep(
    folder: Path,
    source: str,
    values: Sequence[Any],
    *,
    arguments: str = "${{search_space.value}}",
    **fields: Any,
) -> Sweep:
    """A sweep of a Python program over values, each once: grid."""
    code_folder(folder / "code", source)
    trial = {"command": f"python train.py {arguments}", "code": "code", **fields.pop("trial", {})}
    return Sweep.from_dict(
        data(
            trial=trial,
            search_space={"value": {"type": "choice", "values": list(values)}},
            sampling_algorithm="grid",
            limits={"max_total_trials": len(values), **fields.pop("limits", {})},
            **fields,
        ),
        folder,
    )
