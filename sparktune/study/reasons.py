"""Why a study stops before it has launched all its trials: ``SparkTrials.fmin_cancelled_reason``.

The first three are hyperopt's texts.
"""

from __future__ import annotations

EARLY_STOPPING = "early stopping condition"
TIMEOUT = "fmin run timeout"
INTERRUPTED = "fmin run cancelled by user"
LOSS_THRESHOLD = "loss threshold reached"
SIGTERM = "fmin run ended by SIGTERM"
JOBS_CANCELLED = "fmin run cancelled with its Spark jobs"
OUTER_ENDED = "fmin run ended with the trial that runs it"
CUT_OFF = frozenset({INTERRUPTED, SIGTERM, JOBS_CANCELLED, OUTER_ENDED})
"""From outside: such a study is not finished, and can be resumed."""
