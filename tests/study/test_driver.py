"""The driver's own duties; what it does for ``fmin`` is tested in ``test_fmin``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

pytestmark = pytest.mark.unit


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


class Together(SimulatedBackend):
    """Delivers all that happens at one moment at once, and notes launches."""

    def __init__(self, slots: int, said: list[Any]) -> None:
        super().__init__(Objective(abs, pyll.as_apply(hp.uniform("x", 0, 1))), slots, lambda *_: 1.0)
        self._said = said

    def launch(self, task: Task) -> None:
        self._said.append(("launch", task.trial_id))
        super().launch(task)

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        events = list(super().wait(timeout_s))
        while more := super().wait(0.0):
            events += more
        return events


class Says:
    """An observer and a keeper that note what they are told."""

    def __init__(self, said: list[Any], name: str) -> None:
        self._said, self._name = said, name

    def changed(self, trial: Trial) -> None:
        if trial.state.is_final:
            self._said.append((self._name, trial.trial_id))

    def keep(self) -> None:
        if self._said[-1] != self._name:
            self._said.append(self._name)


def together(said: list[Any], n: int, **options: Any) -> Driver:
    numbers = iter(range(n))
    study = Study(
        lambda _seed: Trial(next(numbers), {"x": 0.5}, {"x": 0.5}),
        np.random.default_rng(0),
        max_new=n,
        should_stop=options.pop("should_stop", None),
    )
    return Driver(
        study,
        Together(2, said),
        NullTracker(),
        observers=[Says(said, "observer")],
        keeper=Says(said, "keep"),
        listeners=[Says(said, "listener")],
        parallelism=None,
    )


def test_ends_that_come_together_are_kept_at_once_before_anybody_acts_on_them() -> None:
    said: list[Any] = []
    together(said, 3).run()
    launched = [("launch", 0), ("launch", 1), "keep"]
    ended = [("observer", 0), ("observer", 1), "keep", ("listener", 0), ("listener", 1)]
    assert said == [
        *launched,
        *ended,
        ("launch", 2),
        "keep",
        ("observer", 2),
        "keep",
        ("listener", 2),
        "keep",
    ]


def test_every_end_is_told_also_when_acting_on_the_first_raises() -> None:
    said: list[Any] = []

    def stop(_trial: Trial) -> bool:
        raise LookupError

    with pytest.raises(LookupError):
        together(said, 3, should_stop=stop).run()
    assert said[-2:] == ["keep", ("listener", 1)]
