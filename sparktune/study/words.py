"""Counts of trials and times as text, the same in the terminal, in logs, in pictures and in MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from sparktune.study.trial import TrialState

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


def ended(counts: Mapping[TrialState, int]) -> str:
    """``17 succeeded, 7 terminated early``: only what there is; empty where nothing has ended."""
    return ", ".join(f"{counts[state]} {word}" for state, word in WORDS.items() if counts.get(state, 0))


def n_trials(n: int) -> str:
    """``1 trial``, ``24 trials``, ``5,000 trials``."""
    return n_of(n, "trial")


def n_of(n: int, noun: str) -> str:
    """``1 slot``, ``24 slots``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def in_words(seconds: float) -> str:
    """``3.5 ms``, ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if 0 < seconds < 0.1:
        return f"{seconds * 1e3:.3g} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
