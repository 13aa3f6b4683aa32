"""The command line: ``sparktune sweep``, ``demo``, ``doctor``, ``resume`` and so on.

Exit codes: 0 success; 1 no trial completed, or a study would fail (doctor); 2 wrong usage, or something that
is needed is missing; 3 a sweep file is wrong; 130 Ctrl-C, or its Spark jobs were cancelled from outside.
``sparktune sweep`` has further ones.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from sparktune import __version__
from sparktune.errors import AllTrialsFailed, InvalidSweep, SparktuneError, StudyCancelled
from sparktune.sweeps import commands as sweeps

BAD_FILE, CUT_OFF = 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; None for those of this process.

    Returns:
        The exit code.
    """
    args = _parser().parse_args(argv)
    try:
        code: int = args.run(args)
        return code
    except InvalidSweep as error:
        print(error, file=sys.stderr)
        return BAD_FILE
    except SparktuneError as error:
        print(f"sparktune: {error}", file=sys.stderr)
        if isinstance(error, StudyCancelled):
            return CUT_OFF
        return 1 if isinstance(error, AllTrialsFailed) else 2
    except KeyboardInterrupt:
        print("sparktune: interrupted", file=sys.stderr)
        return CUT_OFF


def _demo(args: argparse.Namespace) -> int:
    from sparktune import demo

    demo.run(args.max_evals, parallelism=args.parallelism, store=args.store, seed=args.seed)
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from sparktune.doctor import doctor

    if args.remote is not None:
        os.environ["SPARK_REMOTE"] = args.remote
    diagnosis = doctor(None if args.objective is None else _imported(args.objective))
    print(diagnosis)
    return 0 if diagnosis.is_healthy else 1


def _resume(args: argparse.Namespace) -> int:
    from sparktune.trials import unfinished

    print(unfinished.table(args.store, args.experiment))
    return 0


def _report(args: argparse.Namespace) -> int:
    from sparktune import plots
    from sparktune.plots.sources import of_run

    path = args.output or f"report-{args.run_id[:8]}.html"
    try:
        plots.report(of_run(args.run_id, args.store), path)
    except OSError as error:
        raise SparktuneError(f"the report cannot be written: {error}") from None
    print(path)
    return 0


def _imported(name: str) -> Any:
    """The object that ``module:name`` means; the working folder is searched too.

    Raises:
        SparktuneError: there is none.
    """
    module, _, attribute = name.partition(":")
    if not attribute:  # importing a script would run it
        raise SparktuneError(f"--objective {name!r} is not a function; write module:function")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SparktuneError(
            f"--objective {name!r} is not a function ({error}); write module:function"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sparktune",
        description="Hyperparameter tuning on Spark, every trial a Spark task and a nested MLflow run.",
    )
    parser.add_argument("--version", action="version", version=f"sparktune {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    sweeps.add_to(commands)
    demo = commands.add_parser(
        "demo",
        help="tune a model on local Spark and record it in MLflow",
        description="Tunes SVM, random forest and gradient boosting on scikit-learn's handwritten digits, on "
        "every core of this machine, and records each trial in an MLflow store in the working folder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--max-evals", type=_positive, default=40, metavar="N", help="trials to run")
    demo.add_argument(
        "--parallelism", type=_positive, metavar="N", help="most parallel trials; by default one per core"
    )
    demo.add_argument(
        "--store", default="sparktune-demo", help="folder of the MLflow store, or a tracking URI (http://...)"
    )
    demo.add_argument(
        "--seed", type=_whole, metavar="N", help="seed of the search; by default a new one each time"
    )
    demo.set_defaults(run=_demo)
    doctor = commands.add_parser(
        "doctor",
        help="check everything that a study needs here, and show a remedy where it would fail",
        description="Checks Java, Spark, Python and package versions on the driver and on Spark's workers, "
        "the slots, and whether workers reach the driver and the MLflow server. Shows a remedy for "
        "what it finds, and exits with 1 where a study would fail.",
    )
    doctor.add_argument(
        "--objective", metavar="MODULE:FUNCTION", help="whether it can be sent to workers, and read there"
    )
    doctor.add_argument(
        "--remote",
        type=_remote,
        metavar="sc://HOST:PORT",
        help="the Spark Connect server that studies are to use; by default the one that SPARK_REMOTE names",
    )
    doctor.set_defaults(run=_doctor)
    resume = commands.add_parser(
        "resume",
        help="list the unfinished studies, and show how to resume them",
        description="Lists the studies in MLflow whose driver died or was interrupted, the latest first: "
        "their parent run, which fmin(..., resume=RUN) resumes, how far they are, and whether a driver "
        "runs them at this moment.",
    )
    resume.add_argument(
        "--store", metavar="URI", help="tracking URI; by default MLFLOW_TRACKING_URI, or MLflow's own default"
    )
    resume.add_argument(
        "--experiment",
        metavar="NAME",
        help="an experiment; by default that of MLflow's environment variables",
    )
    resume.set_defaults(run=_resume)
    report = commands.add_parser(
        "report",
        help="write the report of a study in MLflow, with its pictures, to an HTML file",
        description="Reads a study from MLflow and writes its report: summary, pictures and the table of "
        "trials in one HTML file that needs no network. The study may still be running.",
    )
    report.add_argument("run_id", metavar="RUN", help="id of the study's parent run")
    report.add_argument(
        "--output", metavar="FILE", help="by default report-RUN.html, with the first 8 characters of the id"
    )
    report.add_argument(
        "--store", metavar="URI", help="tracking URI; by default MLFLOW_TRACKING_URI, or MLflow's own default"
    )
    report.set_defaults(run=_report)
    return parser


def _remote(text: str) -> str:
    if not text.startswith(("sc://", "local")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address of a Spark Connect server; write sc://host:15002"
        )
    return text


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or above")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
