"""The benchmark of early termination plays every recorded trial once."""

from __future__ import annotations

import early_termination
import numpy as np

from sparktune import MedianStoppingPolicy


def test_without_a_policy_every_step_is_taken() -> None:
    rng = np.random.default_rng(0)
    curves = np.cumsum(rng.random((early_termination.TRIALS, early_termination.STEPS)), axis=1)
    assert early_termination.play(curves, None) == (0.0, curves[:, -1].max())
    saved, best = early_termination.play(curves, MedianStoppingPolicy(1, 5))
    assert 0 < saved < 1
    assert best <= curves[:, -1].max()
