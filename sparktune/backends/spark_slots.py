"""How many trials run, on a cluster that is fixed, elastic, or of a size that is not known.

One rule for all of them. Nothing here asks Spark: numbers and settings are arguments, decisions are results.

An elastic cluster adds executors while tasks are pending. So a study that uses all slots has a few tasks more
pending at Spark, which belong to no trial yet (``spark_pending``): the point of a trial is chosen when there
is a worker for it. Spark's documentation of dynamic allocation ("Job Scheduling", "Request Policy") and that
of Databricks' autoscaling were followed for what makes a cluster grow, and which settings limit it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

INT_MAX = 2**31 - 1
"""Spark's own default of ``spark.dynamicAllocation.maxExecutors``, which may be written out."""
LEARNING_SHARE = 10
"""Without ``parallelism``, one of so many trials of a study runs at a time: the others learn from it."""
ASSUMED_EVALS = 100
"""Taken for ``max_evals`` where a study has none."""
FEW = 4
"""So many tasks are pending at most, or as many as there are slots: a cluster can double at each step."""
DATABRICKS = "spark.databricks.clusterUsageTags."


class Kind(Enum):
    """What becomes of the number of slots while tasks are pending."""

    FIXED = "fixed"
    ELASTIC = "elastic"
    UNKNOWN = "of a size that is not known"


@dataclass(frozen=True, slots=True)
class Growth:
    """What adds executors to a cluster while tasks are pending, by its settings.

    Attributes:
        by: what adds them; empty where nothing does.
        executors: the most that there may be; ``math.inf`` without a limit.
        per_executor: slots of each, None where it is not set.
    """

    by: str = ""
    executors: float = math.inf
    per_executor: int | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a cluster at one moment, in slots.

    Attributes:
        now: how many there are; None where that is not known.
        most: how many there may be; equal to ``now`` where nothing adds any.
        by: what adds them; empty where nothing does.
    """

    now: int | None
    most: float
    by: str = ""

    @property
    def kind(self) -> Kind:
        """Unknown where it is not known how many slots there are, elastic where executors are added."""
        if self.now is None:
            return Kind.UNKNOWN
        return Kind.ELASTIC if self.by else Kind.FIXED

    def at_least(self, slots: int) -> Size:
        """The same where ``slots`` are seen to be in use, whatever was counted."""
        if self.now is None or slots <= self.now:
            return self
        return replace(self, now=slots, most=max(self.most, slots))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study asks for.

    Attributes:
        parallelism: the most trials at the same time, or None.
        max_evals: how many trials the search is asked for, or None.
        n_given: how many of the user's points come on top.
    """

    parallelism: int | None = None
    max_evals: int | None = None
    n_given: int = 0

    @property
    def is_search(self) -> bool:
        """Whether there is anything that results may teach."""
        return self.max_evals != 0


def growth_of(conf: Any, profile: Any = None) -> Growth:
    """Who adds executors to an application.

    Args:
        conf: its ``SparkConf``, or whatever has its ``get(key, default)``.
        profile: the ``ResourceProfile`` of the trials' tasks, or None.
    """
    per_executor = _per_executor(conf, profile)
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        most = _number(conf.get("spark.dynamicAllocation.maxExecutors", None))
        is_standalone = str(conf.get("spark.master", "")).startswith("spark:")
        if per_executor is None and not is_standalone:  # there an executor takes all cores of its machine
            per_executor = 1
        return Growth("Spark's dynamic allocation", most, per_executor)
    if conf.get(f"{DATABRICKS}clusterScalingType", "") == "autoscaling":
        most = _number(conf.get(f"{DATABRICKS}clusterMaxWorkers", None))
        return Growth("Databricks' autoscaling", most, per_executor)
    return Growth()


def _number(text: str | None) -> float:
    return int(text) if text and text.isdecimal() and int(text) < INT_MAX else math.inf


def _per_executor(conf: Any, profile: Any) -> int | None:
    cores, cpus = conf.get("spark.executor.cores", None), float(conf.get("spark.task.cpus", "1"))
    if profile is not None:
        asked, given = profile.taskResources, profile.executorResources
        cpus = asked["cpus"].amount if "cpus" in asked else cpus
        cores = given["cores"].amount if "cores" in given else cores
    return None if cores is None else max(1, int(float(cores) // cpus))


def size_of(now: int | None, growth: Growth, n_executors: int | None = None) -> Size:
    """The size of a cluster.

    Args:
        now: slots that there are; None where that is not known.
        growth: who adds some.
        n_executors: executors that there are; None where that is not known.
    """
    if now is None:
        return Size(None, math.inf, growth.by)
    if not growth.by:
        return Size(now, now)
    per_executor: float | None = growth.per_executor
    if per_executor is None and n_executors and now:
        per_executor = now / n_executors
    most = math.inf if per_executor is None else growth.executors * per_executor
    return Size(now, most if math.isinf(most) else max(now, int(most)), growth.by)


class Sized(Protocol):
    """What of an ``Application`` is asked here."""

    @property
    def growth(self) -> Growth:
        """What adds executors while tasks are pending."""

    def slots_now(self) -> int | None:
        """How many trials can run at the same time now."""

    def count_executors(self) -> int | None:
        """How many executors there are."""


def size_of_application(application: Sized) -> Size:
    """The size of an application at this moment."""
    growth = application.growth
    needs_executors = growth.by and growth.per_executor is None
    return size_of(
        application.slots_now(), growth, application.count_executors() if needs_executors else None
    )


def limit(size: Size, plan: Plan) -> int:
    """The most trials of a study that run at the same time, however large the cluster becomes."""
    slots = max(1, size.now or 0)
    if plan.parallelism is not None:
        wanted = plan.parallelism
    elif size.kind is Kind.FIXED:
        wanted = slots
    else:
        evals = ASSUMED_EVALS if plan.max_evals is None else plan.max_evals
        trials = evals + plan.n_given
        wanted = max(slots, math.ceil(trials / LEARNING_SHARE) if plan.is_search else trials)
    return int(max(1, min(wanted, max(slots, size.most))))


def to_launch(size: Size, plan: Plan, *, may_wait: bool = True) -> int:
    """The most trials that are to be under way at this moment.

    Args:
        size: of the cluster.
        plan: the study's.
        may_wait: whether tasks without a trial can be pending, so that an elastic cluster grows. Else trials
            are, whose points are chosen before they can begin.
    """
    most = limit(size, plan)
    if size.now is None or (size.kind is Kind.ELASTIC and not may_wait):
        return most
    return min(most, max(1, size.now))


def to_wait(size: Size, plan: Plan, under_way: int, to_come: float) -> int:
    """How many tasks without a trial are to be pending, so that the cluster grows.

    Args:
        size: of the cluster.
        plan: the study's.
        under_way: how many trials are.
        to_come: how many may be launched after these.
    """
    if size.kind is not Kind.ELASTIC or under_way < to_launch(size, plan):
        return 0
    few = max(FEW, size.now or 0)
    return int(max(0, min(limit(size, plan) - under_way, to_come, few)))


def explained(size: Size, plan: Plan) -> str:
    """What was chosen on a cluster that is not fixed, and why; for the log."""
    most = limit(size, plan)
    if size.now is None:
        begin = "Spark does not report how many slots there are"
    else:
        bound = "without a limit" if math.isinf(size.most) else f"up to {int(size.most)}"
        begin = f"{size.by} adds slots while tasks are pending ({size.now} now, {bound})"
    if plan.parallelism is not None:
        why = f"as parallelism={plan.parallelism} asks"
        if most < plan.parallelism:
            why = f"of the {plan.parallelism} that parallelism asks for, as more slots are not allowed there"
    elif size.now is not None and most == size.now:
        why = "as many as there are slots"
    elif most == size.most:
        why = "as many as slots are allowed there"
    elif plan.max_evals is None:
        why = "as there is no max_evals; parallelism=N sets another number"
    elif not plan.is_search:
        why = "as many as there are points_to_evaluate; parallelism=N sets another number"
    else:
        of = "" if not plan.n_given else f" and {plan.n_given} points_to_evaluate"
        why = (
            f"a tenth of max_evals={plan.max_evals}{of}, so that the search learns from results; "
            "parallelism=N sets another number"
        )
    return f"{begin}: at most {most} trial{'s' if most > 1 else ''} at the same time, {why}"


# -- what no executor can ever run ---------------------------------------------------------------------

_TASK_RESOURCE = re.compile(r"spark\.task\.resource\.(.+)\.amount")


def refuse_impossible(settings: Mapping[str, str], profile: Any = None, *, one_process: bool = False) -> None:
    """Refuse an application whose executors can never run a trial, however long it waits.

    Args:
        settings: of the application.
        profile: the ``ResourceProfile`` of the trials' tasks, or None.
        one_process: Spark's master is ``local`` or ``local[N]``.

    Raises:
        ValueError: naming the setting, its value and the remedy.
    """
    for key, amount in settings.items() if one_process else ():
        resource = _TASK_RESOURCE.fullmatch(key)
        if resource is not None and float(amount) > 0:
            raise ValueError(
                f"{key} is {amount}, and a local master has no {resource[1]} to give (Spark runs no task "
                f"there, silently): leave {key} and spark.executor.resource.{resource[1]}.amount out "
                "of the session's settings and of spark-defaults.conf. Objectives can use what this machine "
                "has without them; SparkTrials(parallelism=1) runs one at a time"
            )
    if profile is None:
        return
    given = profile.executorResources
    for name, asked in profile.taskResources.items():
        key = "spark.executor.cores" if name == "cpus" else f"spark.executor.resource.{name}.amount"
        one = given.get("cores" if name == "cpus" else name)
        has = float(one.amount if one is not None else settings.get(key, "nan"))
        if name != "cpus" and math.isnan(has):
            has = 0.0
        if asked.amount > has:
            raise ValueError(
                f"the resource_profile gives each trial {asked.amount:g} {name}, and an executor has "
                f"{has:g} ({key}): no executor could ever run a trial. Ask for less, or set {key} when the "
                "application is started"
            )
