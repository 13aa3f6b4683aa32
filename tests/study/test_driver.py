"""The driver's own duties; what it does for ``fmin`` is tested in ``test_fmin``."""

from __future__ import annotations

import numpy as np
import pytest
from hyperopt import hp, pyll

from sparktune.backends.simulated import SimulatedBackend
from sparktune.study.backend import Event, Finished, Lost, Started, Task
from sparktune.study.driver import Driver
from sparktune.study.study import Study
from sparktune.study.tracker import NullTracker
from sparktune.study.trial import Trial, TrialState
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


@pytest.mark.parametrize(("timeout_s", "state"), [(9.0, TrialState.COMPLETED), (7.0, TrialState.TIMED_OUT)])
def test_the_time_of_a_lost_trial_counts_from_its_new_beginning(timeout_s: float, state: TrialState) -> None:
    """It waits for 16 s until it begins anew, and then takes 8."""

    class Loses(SimulatedBackend):
        def launch(self, task: Task) -> None:
            self._live.add(task.trial_id)
            events: list[Event] = [Started(0, 0.0), Lost(0, 4.0), Started(0, 20.0, 2)]
            for event in [*events, Finished(0, 28.0, {"status": "ok", "loss": 1.0})]:
                self._at(event.at_s, event)

    backend = Loses(Objective(abs, pyll.as_apply(hp.uniform("x", 0, 1))))
    study = Study(lambda _seed: Trial(0, {"x": 0.5}, {"x": 0.5}), np.random.default_rng(0), max_new=1)
    Driver(study, backend, NullTracker(), parallelism=None, trial_timeout_s=timeout_s).run()
    (trial,) = study.trials
    assert (trial.state, trial.attempts) == (state, 2)
    assert backend.now() == {9.0: 28.0, 7.0: 27.0}[timeout_s]
