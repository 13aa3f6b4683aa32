"""The early termination policy of a sweep file."""

from __future__ import annotations

from typing import Any

from sparktune.early_termination import (
    AshaPolicy,
    BanditPolicy,
    EarlyTerminationPolicy,
    MedianStoppingPolicy,
    TruncationSelectionPolicy,
)

_POLICIES: dict[str, Any] = {
    "bandit": BanditPolicy,
    "median_stopping": MedianStoppingPolicy,
    "truncation_selection": TruncationSelectionPolicy,
    "asha": AshaPolicy,
}


def policy_of(of: Any) -> EarlyTerminationPolicy | None:
    """The policy; None for None.

    Raises:
        ValueError: its arguments contradict each other.
    """
    if of is None:
        return None
    policy: EarlyTerminationPolicy = _POLICIES[of.type](**of.model_dump(exclude={"type"}))
    return policy
