"""The benchmark of early termination plays every recorded trial once."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from sparktune import MedianStoppingPolicy

pytestmark = pytest.mark.unit

# By its path: a folder of tests has the same name.
BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "early_termination.py"))


def test_without_a_policy_every_step_is_taken() -> None:
    rng, shape = np.random.default_rng(0), (BENCHMARK["TRIALS"], BENCHMARK["STEPS"])
    curves = np.cumsum(rng.random(shape), axis=1)
    assert BENCHMARK["play"](curves, None) == (0.0, curves[:, -1].max())
    saved, best = BENCHMARK["play"](curves, MedianStoppingPolicy(1, 5))
    assert 0 < saved < 1
    assert best <= curves[:, -1].max()
