"""A study as it is at one moment, whatever it was read from: what pictures and reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sparktune.study.trial import Trial


@dataclass(frozen=True)
class StudySnapshot:
    """A study at one moment.

    Attributes:
        trials: every trial, in any state, by number.
        reports: trial id -> its reports of the primary metric, in their order.
        metric: the primary metric.
        goal: what is good in it; to be maximized, a loss is its negative.
        algo: the search algorithm, or empty.
        parameters: label -> how the parameter is distributed (``space.signature``), as far as it is known.
        name: of its run or experiment, for people; or empty.
        run_id: the MLflow parent run, or None.
        stop_reason: why it stopped before its end, or None.
        is_running: more trials may come.
        reports_left_out: how many trials have reports that were not read.
    """

    trials: Sequence[Trial]
    reports: Mapping[int, Sequence[float]] = field(default_factory=dict)
    metric: str = "loss"
    goal: str = "minimize"
    algo: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    run_id: str | None = None
    stop_reason: str | None = None
    is_running: bool = False
    reports_left_out: int = 0
