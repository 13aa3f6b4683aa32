"""``sparktune sweep``, ``validate``, ``show`` and ``best``: their arguments, and what they do."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparktune.errors import SparkNotAvailable, SparktuneError, StudyTakenOver
from sparktune.tracking import schema

logger = logging.getLogger("sparktune")

ENGINE_LOST = 4
UNEXPECTED = 70
"""EX_SOFTWARE of sysexits.h. Python's own code for an exception is 1, which means that no trial completed."""


def add_to(commands: Any) -> None:
    """Add the commands to the parser of the command line."""
    sweep = commands.add_parser(
        "sweep",
        help="tune a command or function that a sweep file describes",
        description="Runs the sweep that a YAML file describes, on the Spark session that spark-submit has "
        "configured, or on every core of this machine. Exit codes: 0 done; 1 no trial completed; 2 wrong "
        "usage, or something is missing; 3 the file is wrong; 4 Spark was lost while the sweep ran, or "
        "another driver has taken it over; 70 anything else; 130 interrupted (Ctrl-C, SIGTERM, its "
        "Spark jobs cancelled by others).",
    )
    _file(sweep)
    sweep.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write run, best trial and states as JSON, however it ends",
    )
    sweep.add_argument(
        "--script",
        action=_Script,
        nargs=0,
        help="print the path of the script to give to spark-submit, and end",
    )
    sweep.set_defaults(run=run)
    validate = commands.add_parser(
        "validate",
        help="check a sweep file",
        description="Checks a sweep file, starts nothing, and exits with 3 where it is wrong.",
    )
    _file(validate)
    validate.set_defaults(run=_validate)
    show = commands.add_parser(
        "show", help="list the trials of a sweep or study", description="Lists the trials that MLflow has."
    )
    _run(show)
    show.add_argument("--format", choices=["table", "json"], default="table", help="default: table")
    show.set_defaults(run=_show)
    best = commands.add_parser(
        "best",
        help="show the best trial of a sweep or study",
        description="Shows the best trial, and downloads its artifacts. Exits with 1 where there is none.",
    )
    _run(best)
    best.add_argument("--format", choices=["json", "yaml"], default="json", help="default: json")
    best.add_argument("--download", type=Path, metavar="DIR", help="the artifacts of its run go there")
    best.set_defaults(run=_best)


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the sweep file")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a field of the file, such as limits.max_total_trials=50; may be given several times",
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN", help="the parent run, which the sweep has printed")
    parser.add_argument(
        "--store", metavar="URI", help="tracking URI; by default MLFLOW_TRACKING_URI, or MLflow's own default"
    )


class _Script(argparse.Action):
    """``--script``."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print(Path(__file__).resolve().parent.parent / "submit" / "sweep.py")
        parser.exit()


def _validate(args: argparse.Namespace) -> int:
    from sparktune.sweeps.sweep import Sweep

    sweep = Sweep.from_yaml(args.file, args.settings)
    for note in sweep.notes:
        print(note, file=sys.stderr)
    print(f"{args.file}: {sweep.summary()}")
    return 0


def run(args: argparse.Namespace) -> int:
    """``sparktune sweep``."""
    from sparktune.sweeps.sweep import Sweep

    sweep = Sweep.from_yaml(args.file, args.settings)
    if args.output is not None:
        _can_be_written(args.output)
    _log()
    with _sigterm_as_ctrl_c():
        try:
            return _run_sweep(sweep, args.output)
        except SparktuneError:
            raise
        except Exception:
            logger.exception("the sweep ended by an unexpected exception")
            return UNEXPECTED


def _can_be_written(output: Path) -> None:
    """Refuse, before anything starts, a file that cannot be written at the end.

    Raises:
        SparktuneError: it cannot.
    """
    if output.is_dir():
        raise SparktuneError(f"--output {str(output)!r} is a folder: give the name of a file")
    if not output.parent.is_dir():
        raise SparktuneError(
            f"--output {str(output)!r}: the folder {str(output.parent)!r} does not exist: create it"
        )
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise SparktuneError(f"--output {str(output)!r} may not be written by this user: write elsewhere")


def _run_sweep(sweep: Any, output: Path | None) -> int:
    from sparktune.backends import session
    from sparktune.tracking.location import import_mlflow

    # Read when mlflow is imported: no warning on a machine without git.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    spark = session.get_or_create(import_mlflow)
    try:
        try:
            trials = sweep.run(spark)
        finally:
            if output is not None and sweep.trials is not None:
                _write(output, _outcome(sweep.trials))
    except (SparkNotAvailable, StudyTakenOver) as error:
        print(f"sparktune: {error}", file=sys.stderr)
        return ENGINE_LOST
    else:
        _print_best(trials)
        return 0
    finally:
        _stop(spark)


def _print_best(trials: Any) -> None:
    best = trials.best_trial
    print(f"run {trials.run_id}")
    params = " ".join(f"{name}={value!r}" for name, value in trials.best_params.items())
    value = f"{trials.metric}={trials.best_metric:.6g}"
    print(f"best trial {best['tid']} (run {trials.best_run_id}): {value} {params}", flush=True)


class _Enough(BaseException):
    """A signal while Spark stops. py4j logs a traceback of a ``KeyboardInterrupt``."""


def _stop(spark: Any) -> None:
    """Stop Spark; a signal ends the wait for it, since the sweep has ended."""

    def enough(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise _Enough

    with contextlib.suppress(Exception, _Enough):
        if threading.current_thread() is not threading.main_thread():
            spark.stop()
            return
        before = {number: signal.signal(number, enough) for number in (signal.SIGINT, signal.SIGTERM)}
        spark.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(output: Path, found: dict[str, Any]) -> None:
    try:
        output.write_text(_json(found) + "\n", encoding="utf-8")
    except OSError as error:
        logger.error("--output %r cannot be written: %s", str(output), error.strerror)


def _json(value: Any) -> str:
    """As JSON, which has no NaN and no infinities: they are text."""
    return json.dumps(schema.point_as_json(value), indent=2, ensure_ascii=False, allow_nan=False)


def _outcome(trials: Any) -> dict[str, Any]:
    """The state of a sweep, for programs; where no trial completed, there is no best one."""
    from hyperopt import exceptions as hyperopt_exceptions

    best: dict[str, Any] = {
        "run_id": None,
        "trial": None,
        "metric": {"name": trials.metric, "value": None},
        "parameters": None,
        "point": None,
    }
    with contextlib.suppress(hyperopt_exceptions.AllTrialsFailed):
        best = {
            "trial": trials.best_trial["tid"],
            "run_id": trials.best_run_id,
            "metric": {"name": trials.metric, "value": trials.best_metric},
            "parameters": trials.best_params,
            "point": trials.best_point,
        }
    return {
        "parent_run_id": trials.run_id,
        **best,
        "states": {state.value: count for state, count in trials.counts().items()},
        "stopped_because": trials.fmin_cancelled_reason,
    }


def _show(args: argparse.Namespace) -> int:
    from sparktune.sweeps.results import Results
    from sparktune.tracking.chosen import chosen

    with chosen(args.store, None):
        results = Results.of(args.run_id)
    print(_json(results.as_dict()) if args.format == "json" else results.table())
    return 0


def _best(args: argparse.Namespace) -> int:
    from sparktune.sweeps.results import Results
    from sparktune.tracking.artifacts import download
    from sparktune.tracking.chosen import chosen
    from sparktune.tracking.location import current_uri

    with chosen(args.store, None):
        found = Results.of(args.run_id).best_as_dict()
        if args.download is not None:
            try:
                files = download(current_uri(), found["run_id"], args.download)
            except Exception as error:  # whatever MLflow and its artifact stores raise
                text = " ".join(str(error).split())
                raise SparktuneError(
                    f"the artifacts of the run {found['run_id']} cannot be downloaded: {text}"
                ) from None
            print(f"{len(files)} files in {args.download}", file=sys.stderr)
    if args.format == "yaml":
        import yaml

        print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), end="")
    else:
        print(_json(found))
    return 0


def _log() -> None:
    """Log to standard error: with times and every trial, unless a person watches the progress bar."""
    from sparktune.study import console

    watched = console.someone_watches()
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter("%(message)s" if watched else "%(asctime)s %(levelname)s %(message)s")
    )
    for name in ("sparktune", "hyperopt-spark"):
        logging.getLogger(name).handlers = [handler]  # hyperopt adds one to the second
        logging.getLogger(name).setLevel(logging.WARNING if watched else logging.INFO)
        logging.getLogger(name).propagate = False
    # Otherwise every table of a new database is logged.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    from sparktune.study import interrupts

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupts.interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
