"""What a study looks like in MLflow: names, values and limits, as pure functions.

Nothing here imports MLflow or does input or output. Limits are those of MLflow's REST API ("Request Limits":
100 params, 100 tags, 1000 metrics, 1 MB per batch; key 250, param value 6000, tag value 5000 characters).
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import json
import math
import numbers
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sparktune._naming import text_of
from sparktune.study.columns import parameter_columns
from sparktune.study.reasons import CUT_OFF
from sparktune.study.tracker import StudyInfo, StudySummary
from sparktune.study.trial import Trial, TrialState

MAX_KEY = 250
MAX_PARAM_VALUE = 6000
MAX_TAG_VALUE = 5000
MAX_PARAMS_PER_BATCH = 100
MAX_TAGS_PER_BATCH = 100
MAX_METRICS_PER_BATCH = 1000
MAX_ITEMS_PER_BATCH = 1000
MAX_BATCH_BYTES = 900_000
"""Below MLflow's 1 MB, to leave room for the JSON around the items."""
MAX_JSON_BITS = 14_000
"""Larger integers have more digits than Python turns into text (``sys.get_int_max_str_digits``: 4300)."""

STUDY_TAG = "fmin_uuid"
ROLE_TAG = "sparktune.role"
TRIAL_ID_TAG = "sparktune.trial_id"
PARENT_TAG = "mlflow.parentRunId"
ROOT_TAG = "mlflow.rootRunId"
NAME_TAG = "mlflow.runName"
DOCUMENT_TAG = "sparktune.trial"
POINT_TAG = "sparktune.point"
BEST_TAG = "sparktune.best"
"""``true`` on the run of a study's best trial, once the study has ended; ``false`` where it was that before
the study was resumed."""
INTERRUPTED_TAG = "sparktune.interrupted"
"""On the run of a trial whose driver died; the trial is run again in another run."""
NOTE_TAG = "mlflow.note.content"
"""The description that MLflow's UI shows, as Markdown."""
NOTE_DIGEST_TAG = "sparktune.description"
"""Distinguishes a description that sparktune wrote from one edited since."""
DOCUMENT_ARTIFACT = "trial.json"
MAX_DOCUMENT_TAGS = 8
"""How many tags a recorded document fills at most: 40,000 characters. They come with the run whenever runs
are searched; an artifact takes a download for each run."""
OWN_ENTRIES = "sparktune"
"""The key in a recorded document of what it holds beyond hyperopt's entries."""

_KEY = re.compile(r"[/\w.\- :]+")
_NOT_KEY = re.compile(r"[^/\w.\- :]")


class Point(NamedTuple):
    """One value of a metric: its key, value, time (ms since 1970) and step.

    A ``final`` one is the value that the metric is to have at the end; see ``with_finals_last``.
    """

    key: str
    value: float
    time_ms: int
    step: int = 0
    final: bool = False


class Batch(NamedTuple):
    """What goes into one ``log_batch`` request."""

    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[Point]


def with_finals_last(points: Sequence[Point], latest: Mapping[str, Point]) -> list[Point]:
    """Points with the final ones behind all others of their metrics.

    Of a metric MLflow shows the value of the largest step, and of the latest time among equal steps. The
    objective may have logged the same metric, an epoch a step.

    Args:
        points: to be written to one run.
        latest: metric -> what the run has as its latest value.
    """
    last = dict(latest)
    for point in points:
        known = last.get(point.key)
        if not point.final and (known is None or _place(known) < _place(point)):
            last[point.key] = point
    placed = []
    for point in points:
        if point.final:
            known = last.get(point.key)
            was_written = known is not None and known[:3] == point[:3]  # by a request that nobody answered
            if known is not None and not was_written and _place(known) >= _place(point):
                point = point._replace(step=known.step + 1)
            last[point.key] = point
        placed.append(point)
    return placed


def _place(point: Point) -> tuple[int, int]:
    """The position of a point in its metric's series."""
    return point.step, point.time_ms


# Keys and values -------------------------------------------------------------------------------------------


def is_valid_key(key: str) -> bool:
    """Whether MLflow takes ``key`` as the name of a param, tag or metric.

    It must match MLflow's characters, and be a path that stays as it is when normalised
    (``mlflow.utils.validation``: keys may be treated as files).
    """
    if not key or len(key) > MAX_KEY or not _KEY.fullmatch(key):
        return False
    return posixpath.normpath(key) == key and not key.startswith(("..", "/")) and key != "."


def valid_key(label: str) -> str:
    """A key that MLflow takes; ``label`` itself wherever that is possible.

    Otherwise bad characters become ``_`` and a hash of the label is appended, so that the same label always
    gets the same key and two labels never share one.
    """
    if is_valid_key(label):
        return label
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    stem = _NOT_KEY.sub("_", label).replace("/", "_").strip(". ")[: MAX_KEY - len(digest) - 1]
    return f"{stem or 'param'}-{digest}"


def is_own_tag(key: str) -> bool:
    """Whether a tag identifies a run to MLflow or sparktune, so that users must not set it.

    Further studies in one run number their ids: ``fmin_uuid_1``.
    """
    return key in (PARENT_TAG, ROOT_TAG, NAME_TAG) or key.startswith((STUDY_TAG, "sparktune."))


def storable(text: str) -> str:
    """``text`` as every store takes it: lone surrogates (not in UTF-8) and NUL become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def cut(text: str, limit: int) -> str:
    """``text`` as a store takes it; its beginning and an ellipsis where it is over ``limit`` characters."""
    text = storable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def param_value(value: Any) -> str:
    """A param's value as text: ``str(value)``, as ``mlflow.log_param`` makes it, cut to the limit.

    Functions and objects whose text holds an address in memory have their names.
    """
    try:
        text = text_of(value)
    except Exception as error:  # an option of hp.choice may be any object
        text = f"<{type(value).__name__} without a text: {type(error).__name__}>"
    return cut(text, MAX_PARAM_VALUE)


def params_of(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Label -> value as MLflow params."""
    return {valid_key(prefix + label): param_value(value) for label, value in values.items()}


def metric_value(value: Any) -> float | None:
    """A number (int, float, bool, numpy scalar, 0-d array) as a float; None for everything else.

    NaN and infinities come back as they are.
    """
    if isinstance(value, str | bytes) or value is None:
        return None
    try:
        dtype = getattr(value, "dtype", None)
        if dtype is None and not isinstance(value, numbers.Real):
            return None
        if dtype is not None and (getattr(value, "size", 0) != 1 or dtype.kind not in "biuf"):
            return None
        return float(value)
    except Exception:  # whatever the user's object raises, it is not a number
        return None


def numeric_entries(result: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """The numbers in a result dict: (finite ones, the others).

    Only finite ones become metrics: MLflow's SQL stores turn an infinity into 1.8e308, which leaves every
    chart that shows it unreadable.
    """
    finite: dict[str, float] = {}
    other: dict[str, float] = {}
    for name, value in result.items():
        number = metric_value(value)
        if number is not None:
            (finite if math.isfinite(number) else other)[valid_key(str(name))] = number
    return finite, other


def with_suffix(key: str, taken: Mapping[str, Any] | set[str], first: int = 1) -> str:
    """``key_1``, ``key_2``, ...: the first that is not taken."""
    n = first
    while (candidate := f"{key[: MAX_KEY - 1 - len(str(n))]}_{n}") in taken:
        n += 1
    return candidate


def split(key: str, text: str) -> dict[str, str]:
    """A text as tags; more than one where it is too long for one."""
    text = storable(text)
    pieces = [text[at : at + MAX_TAG_VALUE] for at in range(0, len(text), MAX_TAG_VALUE)] or [""]
    return {key if n == 0 else f"{key}.{n}": piece for n, piece in enumerate(pieces)}


def joined(tags: Mapping[str, str], key: str) -> str:
    """The text that ``split`` gave; empty where there is none."""
    pieces = [tags.get(key, "")]
    for n in itertools.count(1):
        piece = tags.get(f"{key}.{n}")
        if piece is None:
            return "".join(pieces)
        pieces.append(piece)
    raise AssertionError


# Documents -------------------------------------------------------------------------------------------------


def jsonable(value: Any) -> Any:
    """``value`` as something ``json`` can write.

    Datetimes become ISO 8601 text; numpy scalars and arrays numbers and lists; tuples and sets lists. NaN and
    infinities stay floats, in the form that Python's ``json`` writes and reads.

    Raises:
        TypeError, ValueError: there is no such form. The user's objects may raise anything.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if value.bit_length() > MAX_JSON_BITS:
            raise ValueError("an integer with too many digits")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return [jsonable(entry) for entry in sorted(value, key=repr)]
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return jsonable(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def document_json(document: Mapping[str, Any]) -> str:
    """A trial document as JSON, enough to resume from.

    Entries of ``result`` and ``misc`` that have no JSON form are left out, and named in
    ``sparktune_left_out``.
    """
    safe: dict[str, Any] = {}
    left_out: list[str] = []
    for name, value in document.items():
        if name in ("result", "misc") and isinstance(value, Mapping):
            inner: dict[str, Any] = {}
            for key, entry in value.items():
                try:
                    inner[str(key)] = jsonable(entry)
                except Exception:  # whatever the user's object raises; it is named in the document
                    left_out.append(f"{name}.{key}")
            safe[str(name)] = inner
            continue
        try:
            safe[str(name)] = jsonable(value)
        except Exception:  # as above
            left_out.append(str(name))
    if left_out:
        safe["sparktune_left_out"] = left_out
    return storable(json.dumps(safe, separators=(",", ":"), ensure_ascii=False))


def recorded_document(trial: Trial, document: Mapping[str, Any]) -> str:
    """A trial as JSON: its document, and under ``OWN_ENTRIES`` what its record knows beyond that.

    Of a trial that has not ended, what is needed to run it again: the values of its active parameters, and
    what the algorithm wrote into ``misc``.
    """
    own: dict[str, Any] = {name: getattr(trial, name) for name in _RECORDED}
    own = {name: value for name, value in own.items() if value is not None}
    own["state"] = str(trial.state)
    if trial.decision is not None:
        own["decision"] = dataclasses.asdict(trial.decision)
    if trial.error is not None:
        own["error"] = {"kind": trial.error.kind, "message": trial.error.message}
    params: dict[str, Any] = {}
    for label, value in trial.params.items():
        if type(value) is not type(trial.config.get(label)) or value != trial.config.get(label):
            params[label] = recorded_param(value)
    own["params"] = params
    known = dict(document)
    if not trial.state.is_final:
        misc = dict(known.get("misc", {}))
        misc["vals"] = {label: [value] for label, value in trial.config.items()}
        for name in ("idxs", "tid", "cmd", "workdir"):
            misc.pop(name, None)
        known = {"tid": trial.trial_id, "misc": misc}
    return document_json({**known, OWN_ENTRIES: own})


def recorded_param(value: Any) -> Any:
    """A parameter's value for a recorded document: in JSON's types where ``restored_param`` gives it back.

    Else as text: an object, an array, a dict whose keys are not text.
    """
    try:
        safe = jsonable(value)
    except Exception:  # whatever the user's object raises
        return param_value(value)
    return safe if _is_equal(restored_param(safe), value) else _cell(value)


def restored_param(recorded: Any) -> Any:
    """What ``recorded_param`` recorded; lists are the tuples that hyperopt makes of them in a space."""
    if isinstance(recorded, Mapping):
        return {key: restored_param(entry) for key, entry in recorded.items()}
    return tuple(map(restored_param, recorded)) if isinstance(recorded, list) else recorded


FACTS = (
    "attempts",
    "steps",
    "last_step",
    "submitted_s",
    "started_s",
    "ended_s",
    "duration_s",
    "host",
    "worker_pid",
    "stop_reason",
)
"""The attributes of a trial's record that its recorded document holds as they are."""
_RECORDED = ("draws", "loss", *FACTS)


def document_parts(trial: Trial, document: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """A trial as JSON: as tags, or where it is too long for them as an artifact and a tag that names it."""
    text = recorded_document(trial, document)
    if len(text) <= MAX_DOCUMENT_TAGS * MAX_TAG_VALUE:
        return split(DOCUMENT_TAG, text), {}
    return {DOCUMENT_TAG: json.dumps({"artifact": DOCUMENT_ARTIFACT})}, {DOCUMENT_ARTIFACT: text}


def document_in(tags: Mapping[str, str]) -> Any:
    """What ``document_parts`` left in tags; None where there is nothing.

    A record that was written again, and is shorter now, leaves pieces of the one before behind itself.

    Raises:
        ValueError: it is not JSON.
    """
    text = joined(tags, DOCUMENT_TAG)
    return json.JSONDecoder().raw_decode(text)[0] if text else None


def is_point(key: str) -> bool:
    """Whether a tag is one of ``point_tags``."""
    return key == POINT_TAG or key.startswith(f"{POINT_TAG}.")


def point_tags(trial: Trial, document: Mapping[str, Any]) -> dict[str, str]:
    """What is needed to run a trial again whose end is not recorded, as tags."""
    return split(POINT_TAG, recorded_document(trial, document))


# Runs ------------------------------------------------------------------------------------------------------


COUNTED = {
    TrialState.COMPLETED: "successful",
    TrialState.FAILED: "failed",
    TrialState.CANCELLED: "cancelled",
    TrialState.EARLY_TERMINATED: "early_terminated",
    TrialState.TIMED_OUT: "timed_out",
}
"""State -> what it is counted as: each trial once, so that ``<name>_trials_count`` add up to the total."""


def run_status(state: TrialState) -> str:
    """MLflow's status of a trial's run."""
    if state is TrialState.COMPLETED:
        return "FINISHED"
    if state is TrialState.FAILED:
        return "FAILED"
    return "KILLED" if state.is_final else "RUNNING"


def parent_status(summary: StudySummary) -> str:
    """MLflow's status of the parent run: FAILED when fmin raises, KILLED when it was cut off."""
    if summary.error:
        return "FAILED"
    return "KILLED" if summary.stop_reason in CUT_OFF else "FINISHED"


def final_tags(trial: Trial) -> dict[str, str]:
    """The tags with how a trial ended; without its document."""
    tags = {"trial_status": str(trial.state)}
    facts = {
        "duration_s": None if trial.duration_s is None else f"{trial.duration_s:.6g}",
        "attempts": trial.attempts or None,
        "host": trial.host,
        "worker_pid": trial.worker_pid,
        "stop_reason": trial.stop_reason,
        "error": None if trial.error is None else trial.error.summary,
    }
    if trial.decision is not None:
        facts |= {
            "early_termination.policy": trial.decision.policy,
            "early_termination.interval": trial.decision.interval,
            "early_termination.value": f"{trial.decision.value:.6g}",
            "early_termination.cutoff": f"{trial.decision.cutoff:.6g}",
        }
    tags |= {f"sparktune.{name}": str(value) for name, value in facts.items() if value is not None}
    return {key: cut(value, MAX_TAG_VALUE) for key, value in tags.items()}


def final_record(
    trial: Trial, document: Mapping[str, Any], time_ms: int
) -> tuple[dict[str, str], list[Point], dict[str, str]]:
    """What a finished trial adds to its run: (tags, metrics, artifacts as file name -> text)."""
    tags = final_tags(trial)
    known, artifacts = document_parts(trial, document)
    tags |= known
    if trial.error is not None:
        artifacts["traceback.txt"] = trial.error.traceback
    finite, other = numeric_entries(trial.result or {})
    if trial.loss is None:  # what stands there for search algorithms says nothing to people
        finite.pop("loss", None)
    if trial.loss is not None:
        (finite if math.isfinite(trial.loss) else other)["loss"] = float(trial.loss)
    if other:
        shown = ", ".join(f"{key}={value}" for key, value in other.items())
        tags["sparktune.not_finite"] = cut(shown, MAX_TAG_VALUE)
    step = max(trial.steps, trial.last_step)
    metrics = [Point(key, value, time_ms, step, final=True) for key, value in finite.items()]
    if trial.decision is not None and trial.loss is None and set(trial.result or ()) == {"loss", "status"}:
        # A value reported as ``loss`` is not a loss, and would be among the losses.
        metrics.append(Point("loss", math.nan, time_ms, step, final=True))
    return tags, metrics, artifacts


def revision(
    before: Trial, trial: Trial, document: Mapping[str, Any], time_ms: int
) -> tuple[dict[str, str], list[Point], dict[str, str]]:
    """What a trial whose values have changed after its end adds to its run; see ``final_record``.

    A metric that has no value any more is NaN: what was logged cannot be removed.
    """
    tags, metrics, artifacts = final_record(trial, document, time_ms)
    known = {point.key: point.value for point in final_record(before, document, time_ms)[1]}
    changed = [point for point in metrics if known.get(point.key) != point.value]
    gone = known.keys() - {point.key for point in metrics}
    changed += [Point(key, math.nan, time_ms, final=True) for key in sorted(gone)]
    return tags, changed, artifacts


def parent_params(info: StudyInfo) -> dict[str, str]:
    """The parent's params at the start."""
    values = {
        "algo": info.spec.algo,
        "max_evals": info.spec.max_evals,
        "parallelism": info.parallelism,
        "timeout": info.spec.timeout_s,
        "max_queue_len": info.max_queue_len,
    }
    return params_of(values)


def parent_tags(info: StudyInfo) -> dict[str, str]:
    """The parent's tags at the start."""
    tags = {"space": info.space, "sparktune.metric": info.spec.metric, "sparktune.goal": info.spec.goal}
    if info.policy is not None:
        tags["sparktune.early_termination"] = info.policy
    if info.algo_reason is not None:
        tags["sparktune.algo_reason"] = info.algo_reason
    return {key: cut(value, MAX_TAG_VALUE) for key, value in tags.items()}


def trials_table(trials: Sequence[Trial], run_ids: Mapping[int, str]) -> str:
    """All trials in the JSON of MLflow's tables (pandas' ``split`` orientation), which its UI can show."""
    labels = list(dict.fromkeys(label for trial in trials for label in trial.params))
    columns = ["trial", "state", "loss", "duration_s", "attempts", "steps", "error", "run_id"]
    columns += parameter_columns(labels, columns).values()
    data = []
    for trial in trials:
        error = None if trial.error is None else trial.error.summary
        row: list[Any] = [trial.trial_id, str(trial.state), trial.loss, trial.duration_s]
        row += [trial.attempts, trial.steps, error, run_ids.get(trial.trial_id)]
        row += [trial.params.get(label) for label in labels]
        data.append([_cell(value) for value in row])
    return json.dumps({"columns": columns, "data": data}, allow_nan=False)


MAX_ARRAY = 1_000
"""Larger arrays that are options are recorded by their text, which numpy shortens."""


def best_point_file(number: int) -> str:
    """The artifact of a parent run that holds the best trial's point.

    Args:
        number: of studies that the run was the parent of before.
    """
    return f"best_point_{number}.json" if number else "best_point.json"


def point_json(trial_id: int, point: Any) -> str:
    """The artifact that holds a trial's point, as its objective received it.

    ``"exact": false`` means that it is not the same in JSON: a tuple, a function, a key that is not text.
    """
    safe = point_as_json(point)
    found = {"trial": trial_id, "point": safe} | ({} if _is_equal(safe, point) else {"exact": False})
    return json.dumps(found, indent=2) + "\n"


def _is_equal(safe: Any, value: Any) -> bool:
    try:
        return bool(safe == value)
    except Exception:  # of an array, or whatever the user's object raises
        return False


def point_as_json(value: Any) -> Any:
    """A point in JSON's types; what has no JSON form is there as text."""
    if isinstance(value, Mapping):
        return {str(key): point_as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [point_as_json(entry) for entry in value]
    try:
        safe = param_value(value) if getattr(value, "size", 0) > MAX_ARRAY else jsonable(value)
    except Exception:  # whatever the user's object raises
        return param_value(value)
    return str(safe) if isinstance(safe, float) and not math.isfinite(safe) else safe


def _cell(value: Any) -> Any:
    try:
        safe = jsonable(value)
    except Exception:  # whatever the user's object raises
        return param_value(value)
    if isinstance(safe, float) and not math.isfinite(safe):
        return str(safe)
    return safe if safe is None or isinstance(safe, bool | int | float | str) else json.dumps(safe)


def batches(params: Mapping[str, str], tags: Mapping[str, str], metrics: Sequence[Point]) -> Iterator[Batch]:
    """Split into as few requests as MLflow's limits allow, in order."""
    batch, size = Batch({}, {}, []), 0

    def full(count: int, limit: int, cost: int) -> bool:
        items = len(batch.params) + len(batch.tags) + len(batch.metrics)
        return count >= limit or items >= MAX_ITEMS_PER_BATCH or (items > 0 and size + cost > MAX_BATCH_BYTES)

    pairs = [(0, key, value) for key, value in params.items()] + [(1, k, v) for k, v in tags.items()]
    for kind, key, value in pairs:
        cost = 4 * (len(key) + len(value)) + 40
        if full(len(batch[kind]), (MAX_PARAMS_PER_BATCH, MAX_TAGS_PER_BATCH)[kind], cost):
            yield batch
            batch, size = Batch({}, {}, []), 0
        (batch.params, batch.tags)[kind][key] = value
        size += cost
    for point in metrics:
        cost = 4 * len(point.key) + 120
        if full(len(batch.metrics), MAX_METRICS_PER_BATCH, cost):
            yield batch
            batch, size = Batch({}, {}, []), 0
        batch.metrics.append(point)
        size += cost
    if batch.params or batch.tags or batch.metrics:
        yield batch
