"""The driver's own duties; what it does for ``fmin`` is tested in ``test_fmin``."""

from __future__ import annotations

import numpy as np
from hyperopt import hp, pyll

from sparktune.backends.simulated import SimulatedBackend
from sparktune.study.driver import Driver
from sparktune.study.study import Study
from sparktune.study.tracker import NullTracker
from sparktune.study.trial import Trial
from sparktune.worker.objective import Objective


def test_chores_are_done_when_they_are_due_also_while_nothing_ends() -> None:
    space = pyll.as_apply(hp.uniform("x", 0, 1))
    backend = SimulatedBackend(Objective(abs, space), 1, lambda config, result: 10.0)
    times: list[float] = []

    class EveryThreeSeconds:
        def due_in_s(self) -> float | None:
            return (times[-1] if times else 0.0) + 3.0 - backend.now()

        def do(self) -> None:
            times.append(backend.now())

    study = Study(lambda _seed: Trial(0, {"x": 0.5}, {"x": 0.5}), np.random.default_rng(0), max_new=1)
    Driver(study, backend, NullTracker(), chores=[EveryThreeSeconds()], parallelism=None).run()
    assert times == [3.0, 6.0, 9.0]
