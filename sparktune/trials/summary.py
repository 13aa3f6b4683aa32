"""The summary of a study: best loss, time, how many trials ended how, where to look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.study.trial import Trial, shown_value
from sparktune.study.words import ended, in_words, n_trials

if TYPE_CHECKING:
    from sparktune.trials.base import StudyTrials


def opening_line(trials: StudyTrials, slots: int) -> str:
    """The log line at the start of a study: its run, and how many trials can run at the same time."""
    run = "" if trials.run_id is None else f"run {trials.run_id}: "
    return f"{run}up to {n_trials(min(trials.parallelism, slots))} at a time, {slots} slots"


def lines(best: Trial | None, trials: StudyTrials, elapsed_s: float, link: str | None) -> list[str]:
    """The log lines at the end of a study: best loss, time, trials by how they ended, where to look at them.

    Args:
        best: the best trial, or None.
        trials: of the study.
        elapsed_s: seconds that the call took.
        link: where MLflow shows the runs, or None.
    """
    counts = trials.counts()
    by_state = ended(counts)
    text = f"{n_trials(sum(counts.values()))} in {in_words(elapsed_s)}" + (
        f" ({by_state})" if by_state else ""
    )
    if trials.share_saved is not None:
        text += f"; early termination saved about {trials.share_saved:.0%} of the compute"
    name, value = shown_value(best, trials.metric, trials.goal)
    if best is not None and value is not None:
        text = f"best {name} {value:.6g} (trial {best.trial_id}) after {text}"
    return [text] if link is None else [text, f"runs in MLflow: {link}"]


def how_to_continue(trials: StudyTrials) -> str:
    """How to continue a study that was interrupted."""
    text = "to continue, call fmin again with the same trials object"
    if trials.run_id is None:
        return text
    return f"{text}, or in another process fmin(..., resume={trials.run_id!r})"
