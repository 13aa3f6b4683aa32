"""Progress bars: hyperopt's protocol, and a default that keeps out of log files.

A progress reporter is a context manager factory ``(initial, total)``; it yields an object with ``update(n)``
and takes ``postfix`` as an attribute (``hyperopt.progress``).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from sparktune.study.trial import TrialState

Reporter = Callable[[int, int], AbstractContextManager[Any]]


@contextlib.contextmanager
def silent(initial: int, total: int) -> Iterator[Any]:  # noqa: ARG001
    """Report nothing."""

    class Nothing:
        postfix: object = None

        def update(self, n: int) -> None:
            """Take note of nothing."""

    yield Nothing()


@contextlib.contextmanager
def bar(initial: int, total: int) -> Iterator[Any]:
    """A tqdm bar on standard error."""
    from tqdm import tqdm

    with tqdm(
        initial=initial,
        total=None if total >= sys.maxsize else total,
        unit="trial",
        dynamic_ncols=True,
        file=sys.stderr,
        postfix="best loss: ?",
    ) as progress:
        yield progress


def someone_watches() -> bool:
    """Whether a person looks on: a terminal or a notebook, not a log file."""
    if "ipykernel" in sys.modules:
        return True
    return bool(getattr(sys.stderr, "isatty", lambda: False)())


def reporter(show: bool | Reporter, verbose: bool) -> Reporter:
    """The reporter that ``show_progressbar`` and ``verbose`` of ``fmin`` ask for."""
    if not show or not verbose:
        return silent
    if callable(show):
        return show
    return bar if someone_watches() else silent


def postfix(best_loss: float | None, counts: dict[TrialState, int]) -> str:
    """What stands behind the bar: the best loss, and the failures if there are any."""
    text = "best loss: ?" if best_loss is None else f"best loss: {best_loss}"
    for state, word in ((TrialState.EARLY_TERMINATED, "terminated"), (TrialState.FAILED, "failed")):
        if counts.get(state, 0):
            text += f", {word}: {counts[state]}"
    return text
