"""What ends a study from outside: Ctrl-C, SIGTERM, and the cancelling of its Spark jobs.

Such a study is neither failed nor finished: its running trials are cancelled, its parent run ends as KILLED,
and it can be resumed.
"""

from __future__ import annotations

from sparktune.errors import StudyCancelled
from sparktune.study.interrupts import Terminated
from sparktune.study.reasons import INTERRUPTED, JOBS_CANCELLED, SIGTERM


def cut_off_reason(error: BaseException) -> str | None:
    """The reason to stop a study that an exception from outside stands for; None for any other exception."""
    match error:
        case Terminated():
            return SIGTERM
        case KeyboardInterrupt():
            return INTERRUPTED
        case StudyCancelled():
            return JOBS_CANCELLED
    return None
