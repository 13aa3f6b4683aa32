"""A real cluster that is taken for one to which somebody adds executors while tasks are pending."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from sparktune.backends.spark_jobs import SparkBackend
from sparktune.backends.spark_pending import MOST_ERRORS
from sparktune.backends.spark_slots import Growth, Plan
from sparktune.study.backend import Task
from sparktune.worker.objective import Objective
from tests.backends.conformance import BackendConformance

GROWTH = Growth("a test", 8, 1)


class GrowingBackend(SparkBackend):
    """While all slots are busy, jobs without a trial are pending, as after each trial others follow.

    Args:
        application: where.
        objective: what to run.
        counted: how many slots Spark counts; fewer than there are, as where an executor has just joined.
    """

    def __init__(self, application: Any, objective: Objective, counted: int = 2) -> None:
        application.growth = GROWTH
        application.slots_now = lambda: counted
        super().__init__(application, objective, plan=Plan(parallelism=8))

    def launch(self, task: Task) -> None:
        self.slots()
        super().launch(dataclasses.replace(task, more=math.inf))


class GrowingConformance(BackendConformance):
    """While a trial runs, jobs wait for the next, and get a slot before they have one."""

    others_lost = MOST_ERRORS * 4  # Spark tries each of these jobs four times
    wakes_early = True  # when one of them gets a slot
