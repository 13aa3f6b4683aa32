"""What is said at the end of a study: one account of it, the same in the terminal, in logs and in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sparktune.study.trial import Trial, TrialState

if TYPE_CHECKING:
    from sparktune.trials.base import StudyTrials

WORDS = {
    TrialState.COMPLETED: "succeeded",
    TrialState.FAILED: "failed",
    TrialState.CANCELLED: "cancelled",
    TrialState.EARLY_TERMINATED: "terminated early",
    TrialState.TIMED_OUT: "timed out",
}
ALWAYS = (TrialState.COMPLETED, TrialState.FAILED, TrialState.CANCELLED)
"""hyperopt's line has these three, also where they are 0."""


def counted(counts: Mapping[TrialState, int]) -> str:
    """``24: 17 succeeded, 0 failed, 0 cancelled, 7 terminated early``."""
    parts = [f"{counts[state]} {word}" for state, word in WORDS.items() if counts[state] or state in ALWAYS]
    return f"{sum(counts.values())}: {', '.join(parts)}"


def lines(best: Trial | None, trials: StudyTrials, elapsed_s: float, link: str | None) -> list[str]:
    """The last words of a study: best loss, time, trials by how they ended, where to look at them.

    Args:
        best: the best trial, or None.
        trials: of the study.
        elapsed_s: seconds that the call took.
        link: where MLflow shows the runs, or None.
    """
    counts = trials.counts()
    ended = ", ".join(f"{counts[state]} {word}" for state, word in WORDS.items() if counts[state])
    text = f"{sum(counts.values())} trials in {in_words(elapsed_s)}" + (f" ({ended})" if ended else "")
    if trials.share_saved is not None:
        text += f"; early termination saved about {trials.share_saved:.0%} of the compute"
    if best is not None and best.loss is not None:
        text = f"best loss {best.loss:.6g} (trial {best.trial_id}) after {text}"
    return [text] if link is None else [text, f"runs in MLflow: {link}"]


def in_words(seconds: float) -> str:
    """``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
