"""``Sweep``: a sweep file, and what runs it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparktune.errors import SparktuneError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sparktune.sweeps.document import Document
    from sparktune.sweeps.model import SweepFile
    from sparktune.sweeps.trials import SweepTrials

logger = logging.getLogger("sparktune")


class Sweep:
    """A sweep that has been read and validated.

    Attributes:
        definition: the file as a typed model (``sparktune.sweeps.model.SweepFile``).
        folder: what relative paths in it are relative to.
        notes: remarks on the file, each with its place, such as Azure's fields that are ignored.
        trials: those of the latest ``run``, also of one that was interrupted; None before.
    """

    def __init__(
        self, definition: SweepFile, folder: str | os.PathLike[str] = ".", notes: Sequence[str] = ()
    ) -> None:
        self.definition = definition
        self.folder = Path(folder)
        self.notes = tuple(notes)
        self.trials: SweepTrials | None = None

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], settings: Sequence[str] = ()) -> Sweep:
        """Read a sweep file.

        Args:
            path: of the file.
            settings: changes to it, such as ``limits.max_total_trials=50``.

        Raises:
            InvalidSweep: it cannot be read, or is wrong; a line for each problem, with its place.
            SparktuneError: a package is missing.
        """
        with _needs_packages():
            from sparktune.sweeps import trial_file
            from sparktune.sweeps.document import parse
            from sparktune.sweeps.problems import Place, Problem, refuse
        name = os.fspath(path)
        try:
            text = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise refuse([Problem(Place(name), f"the file cannot be read: {cause}")]) from None
        document = parse(text, name)
        document.folder = os.path.dirname(os.path.abspath(name))
        trial_file.include(document)
        if isinstance(document.data, dict):
            for setting in settings:
                document.put(setting)
        return cls._of(document)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: str | os.PathLike[str] = ".") -> Sweep:
        """A sweep from the contents of a sweep file, as dicts, lists, text and numbers.

        Raises:
            InvalidSweep: it is wrong.
        """
        with _needs_packages():
            from sparktune.sweeps import trial_file
            from sparktune.sweeps.document import of_data
        document = of_data(_plain(data))
        document.folder = os.fspath(folder)
        trial_file.include(document)
        return cls._of(document)

    @classmethod
    def _of(cls, document: Document) -> Sweep:
        from sparktune.sweeps.validation import validated

        definition, notes = validated(document)
        return cls(definition, document.folder, [str(each) for each in notes])

    def __repr__(self) -> str:
        return f"Sweep({self.summary()})"

    def summary(self) -> str:
        """What it would do, in one line."""
        file = self.definition
        what = file.trial.function or file.trial.command
        sampling = file.sampling_algorithm
        how = f"{sampling.type} ({sampling.rule})" if sampling.rule else sampling.type
        policy = f", {file.early_termination.type}" if file.early_termination is not None else ""
        return (
            f"{what}; {len(file.search_space)} parameters, {how}, at most {file.limits.max_total_trials} "
            f"trials, {file.objective.goal} {file.objective.primary_metric}{policy}"
        )

    def run(self, spark: SparkSession | None = None, *, show_progressbar: bool = True) -> SweepTrials:
        """Run the sweep.

        Args:
            spark: the session; None for the active one, or a new one on this machine.
            show_progressbar: a bar with the best loss, in a terminal or notebook.

        Returns:
            Its trials: ``best_params``, ``best_run_id``, ``run_id``, ``to_dataframe()``.

        Raises:
            AllTrialsFailed: no trial completed.
            KeyboardInterrupt: Ctrl-C; finished results are recorded.
            Exception: see ``sparktune.fmin``.
        """
        from sparktune.fmin import fmin
        from sparktune.sweeps import algorithms
        from sparktune.sweeps.space import space_of
        from sparktune.tracking.chosen import chosen

        for note in self.notes:
            logger.warning("%s", note)
        file = self.definition
        objective = self._objective()
        with chosen(file.tracking_uri, file.experiment_name):
            self.trials = trials = self._trials(spark)
            fmin(
                objective,
                space_of(file.search_space),
                algorithms.suggest(file.sampling_algorithm.type, file.sampling_algorithm.rule),
                file.limits.max_total_trials,
                timeout=file.limits.timeout,
                trials=trials,
                rstate=file.sampling_algorithm.seed,
                show_progressbar=show_progressbar,
                resume=file.resume,
                study_name=self._study_name(),
            )
        return trials

    def _study_name(self) -> str:
        """The name by which ``resume: last`` finds the sweep again: its name, else what it runs."""
        file = self.definition
        command = file.trial.function or file.trial.command or ""
        text = command if isinstance(command, str) else shlex.join(command)
        return file.name or file.display_name or " ".join(text.split())

    def _trials(self, spark: SparkSession | None) -> SweepTrials:
        from sparktune.sweeps.policies import policy_of
        from sparktune.sweeps.trials import SweepTrials

        file = self.definition
        tags = {name: str(value) for name, value in file.tags.items()}
        if file.description:
            tags["mlflow.note.content"] = file.description
        return SweepTrials(
            run_name=file.display_name or file.name or "",
            run_tags=tags,
            parallelism=file.parallelism or file.limits.max_concurrent_trials,
            spark_session=spark,
            metric=file.objective.primary_metric,
            goal=file.objective.goal,
            early_termination=policy_of(file.early_termination),
            trial_timeout=file.limits.trial_timeout,
            watch_interval=file.watch_interval,
        )

    def _objective(self) -> Any:
        from sparktune.sweeps.code import modules
        from sparktune.sweeps.model import InputPath
        from sparktune.sweeps.references import arguments, template
        from sparktune.sweeps.scripts import script
        from sparktune.sweeps.worker.command import Command, as_text
        from sparktune.sweeps.worker.function import Function

        file = self.definition
        trial = file.trial
        inputs = {
            name: self._located(value.path) if isinstance(value, InputPath) else value
            for name, value in file.inputs.items()
        }
        if trial.function is not None:
            module, _, name = trial.function.partition(":")
            return Function(module, name, inputs, None if self._code is None else modules(self._code))
        assert trial.command is not None
        env = {name: template(as_text(value)) for name, value in trial.environment_variables.items()}
        if trial.shell:
            assert isinstance(trial.command, str)
            text, variables = script(trial.command)
            argv: tuple[Any, ...] = (("/bin/sh",), ("-c",), (text,), ("sparktune",))
            env |= variables
        else:
            argv = arguments(trial.command)
        return Command(
            argv,
            file.objective.primary_metric,
            {name: as_text(value) for name, value in inputs.items()},
            env,
            {name: output is None or output.is_folder for name, output in file.outputs.items()},
            self._packed_code(),
        )

    def _located(self, path: str) -> str:
        """The path of an input: absolute if it exists beside the file, because trials run elsewhere."""
        beside = self.folder / path
        return str(beside.resolve()) if "://" not in path and beside.exists() else path

    @functools.cached_property
    def _code(self) -> Path | None:
        code = self.definition.trial.code
        return None if code is None else self.folder / code

    def _packed_code(self) -> Any:
        from sparktune.sweeps.code import packed

        return None if self._code is None else packed(self._code)


def _plain(data: Any) -> Any:
    """A copy in which mappings are dicts, and tuples lists."""
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return data


@contextlib.contextmanager
def _needs_packages() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise SparktuneError(
            f"sweep files need pydantic 2 and PyYAML, and one cannot be imported ({error}): "
            "pip install 'sparktune[sweeps]'"
        ) from error
