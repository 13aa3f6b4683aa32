"""A comparison of search algorithms in MLflow: one run, the active one or a new one."""

from __future__ import annotations

import functools
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sparktune.errors import PlotlyNotAvailable
from sparktune.study.spec import algorithm_name
from sparktune.tracking import description, schema
from sparktune.tracking.location import absolute_uri, is_remote
from sparktune.tracking.records import RunRecord
from sparktune.tracking.refusals import at_start
from sparktune.tracking.schema import Point
from sparktune.tracking.store import MlflowStore, Snapshot
from sparktune.tracking.writer import Writer

if TYPE_CHECKING:
    from sparktune.comparison.result import Comparison

logger = logging.getLogger("sparktune")

TAG = "sparktune.comparison"
PATIENCE_S = 60.0
"""How long ``finish`` waits for a store that does not answer."""


class ComparisonRun:
    """Records one comparison. Trouble with MLflow warns, and never raises.

    A run that is active is joined, and not ended; where it has a key already, the comparison's gets a suffix.
    Params: ``algo.<name>`` and the settings. Metrics: for each algorithm the mean any-time curve by number of
    trials, ``best_loss.<name>``, and the numbers of the table. Artifacts: the table, the curves, and the
    picture if plotly is installed.

    Args:
        algos: name -> suggest function.
        space: the search space as text.
        settings: of the comparison, by name.
        objective: its name.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        algos: Mapping[str, Callable[..., Any]],
        space: str,
        settings: Mapping[str, Any],
        *,
        objective: str = "objective",
        clock: Callable[[], float] = time.time,
    ) -> None:
        import mlflow

        self._clock = clock
        self._id = uuid.uuid4().hex
        self._objective, self._settings = objective, dict(settings)
        params = {"algos": ", ".join(algos)} | {
            f"algo.{name}": algorithm_name(algo) for name, algo in algos.items()
        }
        params |= {name: str(value) for name, value in settings.items()}
        self._params = {schema.valid_key(key): schema.param_value(value) for key, value in params.items()}
        self._tags = {TAG: self._id, "space": schema.cut(space, schema.MAX_TAG_VALUE)}
        uri = absolute_uri(mlflow.get_tracking_uri(), os.getcwd())
        active = mlflow.active_run()
        self._joined = active.info.run_id if active is not None else os.environ.get("MLFLOW_RUN_ID")
        self._taken: Snapshot | None = None
        self._store = MlflowStore(uri)
        self._writer = Writer(self._store, 1)
        self._record = RunRecord(
            name=description.comparison_name(
                objective, algos, settings.get("max_evals"), settings.get("repeats")
            ),
            start_ms=self._now_ms(),
            identity={TAG: self._id, schema.ROLE_TAG: "comparison"},
            prepare=self._open,
        )
        self._writer.put(self._record)
        wait_s = 5.0 if is_remote(uri) else 120.0
        self._writer.wait_created(self._record, wait_s, wait_s)

    @property
    def run_id(self) -> str | None:
        """The run, once it is known."""
        return self._joined or self._record.run_id

    def finish(self, result: Comparison | None, failure: BaseException | None = None) -> None:
        """Write the result or the failure, and end the run if it was created here."""
        why: object = None
        try:
            with self._writer.lock:
                self._note_end(result, failure, self._now_ms())
                self._writer.put(self._record)
            if not self._writer.flush(None, PATIENCE_S) or self._store.rejected:
                why = self._writer.why or self._record.set_aside or "the store refuses artifacts"
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        finally:
            self._writer.close()
        if why is not None:
            logger.warning(
                "the comparison is not fully written to MLflow (%s); what compare returns has all of it: "
                "log its table and curves yourself",
                why,
            )

    def _open(self) -> str:
        """Join or create the run, and note its contents; may be called again after a failure."""
        with at_start(self._store.tracking_uri):
            return self._opened()

    def _opened(self) -> str:
        self._store.open()
        if self._joined is not None:
            self._taken = self._store.snapshot(self._joined)
            self._store.experiment_id = self._taken.experiment_id
            run_id = self._joined
        else:
            self._store.use_active_experiment()
            found = self._store.find(self._record) if self._record.uncertain else None
            run_id = found or self._store.create(self._record, self._record.identity)
        with self._writer.lock:
            self._record.params |= {self._free(key, "params"): v for key, v in self._params.items()}
            self._record.tags |= {self._free(key, "tags"): v for key, v in self._tags.items()}
        return run_id

    def _note_end(self, result: Comparison | None, failure: BaseException | None, now_ms: int) -> None:
        if self._joined is None:
            ended = "KILLED" if isinstance(failure, KeyboardInterrupt) else "FAILED"
            self._record.status = "FINISHED" if failure is None else ended
            self._record.end_ms = now_ms
        if failure is not None:
            text = schema.cut(f"{type(failure).__name__}: {failure}", schema.MAX_TAG_VALUE)
            self._record.tags[self._free("sparktune.error", "tags")] = text
        if result is not None:
            self._add_result(result, now_ms)
        if description.may_be_replaced({} if self._taken is None else self._taken.tags, self._id):
            rows = [] if result is None else result.table.to_dict("records")
            why = None if failure is None else f"{type(failure).__name__}: {failure}"
            note = description.of_comparison(self._objective, rows, self._settings, why)
            self._record.tags |= description.note_tags(note, self._id)

    def _add_result(self, result: Comparison, now_ms: int) -> None:
        metrics: list[tuple[str, float, int]] = []
        for row in result.by_trials.itertuples():
            metrics.append((f"best_loss.{row.algo}", float(row.mean), int(row.trial)))
        for entry in result.table.to_dict("records"):
            name = entry.pop("algo")
            metrics += [(f"{key}.{name}", float(value), 0) for key, value in entry.items()]
        metrics.append(("lost_repetitions", float(len(result.lost)), 0))
        self._record.metrics += [
            Point(self._free(schema.valid_key(key), "metrics"), value, now_ms, step)
            for key, value, step in metrics
            if math.isfinite(value)
        ]
        suffix = f"_{self._n_before}" if self._n_before else ""
        self._record.artifacts |= {
            f"comparison{suffix}.csv": result.table.to_csv(index=False),
            f"comparison_curves{suffix}.csv": result.curves.to_csv(index=False),
        }
        try:
            picture = result.to_html()
        except PlotlyNotAvailable as error:
            logger.info("the comparison's picture is not logged: %s", error)
        else:
            self._record.artifacts[f"comparison{suffix}.html"] = picture

    @functools.cached_property
    def _n_before(self) -> int:
        """How many comparisons the run already holds."""
        return 0 if self._taken is None else sum(key.startswith(TAG) for key in self._taken.tags)

    def _free(self, key: str, kind: str) -> str:
        """The key to write under: with a suffix where the run has it already."""
        taken = getattr(self._taken, kind) if self._taken is not None else ()
        return schema.with_suffix(key, set(taken), max(1, self._n_before)) if key in taken else key

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
