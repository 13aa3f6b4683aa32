"""What ends a study from outside: Ctrl-C, SIGTERM, and others who cancel its Spark jobs.

Such a study has not failed, and has not come to its end either: its trials under way are cancelled, its
parent run ends as KILLED, and it may be gone on with.
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
