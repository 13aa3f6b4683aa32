"""Checks beyond types and ranges: whether the parts of a sweep file fit each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from sparktune.errors import InvalidSpace
from sparktune.sweeps import algorithms, references, scripts
from sparktune.sweeps.document import Document, Path
from sparktune.sweeps.model import InputPath, SweepFile
from sparktune.sweeps.policies import policy_of
from sparktune.sweeps.problems import Problem, listed, nearest, shown
from sparktune.sweeps.references import BadCommandError, Reference
from sparktune.sweeps.space import space_of
from sparktune.tracking.schema import is_own_tag

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
LARGEST_EXPONENT = 700.0
"""exp() of more overflows."""


def look(model: SweepFile, document: Document) -> tuple[list[Problem], list[Problem]]:
    """The problems of a file, and its notes."""
    checker = _Checker(model, document)
    checker.look()
    return checker.wrong, checker.notes


class _Checker:
    def __init__(self, model: SweepFile, document: Document) -> None:
        self._model, self._document = model, document
        self.wrong: list[Problem] = []
        self.notes: list[Problem] = []

    def look(self) -> None:
        for check in (self._space, self._search, self._objective, self._policy, self._limits, self._trial):
            check()

    def _refuse(self, path: Path, text: str) -> None:
        self.wrong.append(Problem(self._document.place(path), f"{'.'.join(map(str, path))}: {text}"))

    def _note(self, path: Path, text: str) -> None:
        self.notes.append(Problem(self._document.place(path), f"{'.'.join(map(str, path))}: {text}"))

    # -- the search ------------------------------------------------------------------------------------

    def _space(self) -> None:
        for name, of in self._model.search_space.items():
            here = ("search_space", name)
            if not name.strip() or "\0" in name or len(name) > 250:
                self._refuse(here, "a name must have 1 to 250 characters")
            for n, value in enumerate(of.values if of.type == "choice" else ()):
                if _cannot_travel(value):
                    self._refuse((*here, "values", n), "it holds a character that no argument can hold")
            for text, at in _bad_range(of):
                self._refuse((*here, at), text)
            for text in _odd_range(of):
                self._note(here, text)
        if self.wrong:
            return
        for name, of in self._model.search_space.items():
            try:
                space_of({name: of})
            except (InvalidSpace, ValueError, OverflowError) as error:
                self._refuse(("search_space", name), str(error))

    def _search(self) -> None:
        sampling = self._model.sampling_algorithm
        here = ("sampling_algorithm",)
        known = list(algorithms.ALGORITHMS)
        if sampling.type not in known:
            text = f"{shown(sampling.type)} is not an algorithm{nearest(sampling.type, known)}"
            self._refuse((*here, "type"), f"{text}; allowed: {listed(known)}")
        if sampling.rule is not None and sampling.type != "random":
            self._refuse((*here, "rule"), f"only random has a rule, and the type is {sampling.type}")
        if sampling.type == "grid":
            for name, of in self._model.search_space.items():
                if of.type not in ("choice", "randint", "quniform", "qloguniform"):
                    self._refuse(
                        ("search_space", name, "type"),
                        f"grid needs finitely many values, and {of.type} has infinitely many: use choice, "
                        "randint, quniform or qloguniform, or another sampling_algorithm",
                    )

    def _objective(self) -> None:
        objective = self._model.objective
        if objective.primary_metric == "loss" and objective.goal == "maximize":
            self._refuse(
                ("objective", "goal"),
                "'loss' is what is minimized: rename the metric, or minimize it",
            )
        if objective.primary_metric != objective.primary_metric.strip():
            self._refuse(("objective", "primary_metric"), "it begins or ends with a space")

    def _policy(self) -> None:
        try:
            policy_of(self._model.early_termination)
        except ValueError as error:
            self._refuse(("early_termination",), str(error))

    def _limits(self) -> None:
        limits = self._model.limits
        both = (self._model.parallelism, limits.max_concurrent_trials)
        if None not in both and both[0] != both[1]:
            self._refuse(
                ("parallelism",),
                f"it is {both[0]}, and limits.max_concurrent_trials is {both[1]}: give one of them",
            )
        if limits.timeout and limits.trial_timeout and limits.trial_timeout > limits.timeout:
            self._note(("limits", "trial_timeout"), "it is longer than timeout, so it never ends a trial")
        known = self._document.values
        for name in ("max_total_trials",):
            if ("limits", name) not in known and self._model.sampling_algorithm.type != "grid":
                self._note(("limits",), f"no {name}: the sweep runs {limits.max_total_trials} trials")

    # -- the trial -------------------------------------------------------------------------------------

    def _trial(self) -> None:
        trial = self._model.trial
        if (trial.command is None) == (trial.function is None):
            self._refuse(("trial",), "it needs exactly one of command and function")
            return
        if trial.function is not None:
            self._function()
        else:
            self._command()
        for name, value in self._model.inputs.items():
            self._input(name, value)
        for name in self._model.outputs:
            if not re.fullmatch(r"\w[\w.-]*", name):
                self._refuse(("outputs", name), "a name must have letters, digits, _, . and - only")
        for name in self._model.tags:
            if is_own_tag(name):
                self._refuse(("tags", name), "sparktune sets this tag: rename yours")
        code = trial.code
        if code is not None and "://" in code:
            self._refuse(("trial", "code"), f"{shown(code)} is not a folder of this machine")
        elif code is not None and ("\0" in code or not (FilePath(self.folder) / code).is_dir()):
            self._refuse(
                ("trial", "code"), f"{shown(code)} is not a folder; it is looked for beside the sweep file"
            )

    @property
    def folder(self) -> str:
        """What relative paths in the file are relative to."""
        return self._document.folder

    def _function(self) -> None:
        trial = self._model.trial
        if trial.shell:
            self._refuse(("trial", "shell"), "only a command has a shell, and this trial is a function")
        if trial.environment_variables:
            self._refuse(("trial", "environment_variables"), "only a command has them")

    def _command(self) -> None:
        trial = self._model.trial
        command = trial.command
        assert command is not None
        used: set[Reference] = set()
        here: Path = ("trial", "command")
        try:
            if trial.shell:
                if not isinstance(command, str):
                    self._refuse(here, "shell: true takes a text, and this is a list")
                    return
                for variable in scripts.script(command)[1].values():
                    used |= set(references.references(variable))
                if used and scripts.nests(command):
                    self._note(here, scripts.NESTED)
            else:
                arguments = references.arguments(command)
                for part in arguments:
                    used |= set(references.references(part))
                if scripts.nests_in(arguments):
                    self._note(here, scripts.NESTED)
        except BadCommandError as error:
            self._refuse(here, str(error))
            return
        self._known(here, used)
        for name, value in trial.environment_variables.items():
            at = ("trial", "environment_variables", name)
            if not name or "=" in name or "\0" in name or "\0" in str(value):
                self._refuse(at, "an environment variable cannot have this name, or this value")
                continue
            try:
                found = set(references.references(references.template(str(value))))
            except BadCommandError as error:
                self._refuse(at, str(error))
                continue
            self._known(at, found)
            used |= found
        unused = [name for name in self._model.search_space if Reference("search_space", name) not in used]
        if unused:
            self._note(
                here,
                f"it does not use {listed(unused)}, which it finds in environment variables only: "
                f"{listed('SPARKTUNE_PARAM_' + name for name in unused)}",
            )

    def _known(self, path: Path, found: set[Reference]) -> None:
        model = self._model
        kinds: Mapping[str, Any] = {
            "search_space": model.search_space,
            "inputs": model.inputs,
            "outputs": model.outputs,
        }
        for each in sorted(found, key=str):
            if each.kind not in kinds:
                text = f"{each} has no meaning{nearest(each.kind, kinds)}; allowed: {listed(kinds)}"
                self._refuse(path, text)
            elif each.name not in kinds[each.kind]:
                names = kinds[each.kind]
                allowed = f"there are: {listed(names)}" if names else f"{each.kind} is empty"
                self._refuse(path, f"{each}: there is no such name{nearest(each.name, names)}; {allowed}")

    def _input(self, name: str, value: Any) -> None:
        here = ("inputs", name)
        text = value.path if isinstance(value, InputPath) else str(value)
        if "\0" in text:
            self._refuse(here, "no argument can hold a NUL character")
        if isinstance(value, InputPath) and text.startswith("azureml:"):
            self._refuse(
                (*here, "path"),
                f"{shown(text)} is an asset of an Azure workspace: give an address that the workers can read",
            )
        elif isinstance(value, InputPath) and not _ADDRESS.match(text) and "\0" not in text:
            self._input_path((*here, "path"), FilePath(text))

    def _input_path(self, here: Path, path: FilePath) -> None:
        """Whether a trial can find a path: its working folder is a copy of the code folder."""
        beside = FilePath(self.folder)
        code = self._model.trial.code
        if _exists(beside / path) or (code is not None and _exists(beside / code / path)):
            return
        if path.is_absolute():
            self._note(here, f"{shown(str(path))} is not on this machine: the workers must have it")
        else:
            self._refuse(
                here,
                f"{shown(str(path))} does not exist: neither beside the sweep file nor in trial.code",
            )


def _exists(path: FilePath) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or not valid in the file system
        return False


def _cannot_travel(value: Any) -> bool:
    """Whether text in a value, at any depth, holds NUL, or a lone surrogate, which UTF-8 cannot encode."""
    if isinstance(value, str):
        return "\0" in value or any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return any(map(_cannot_travel, (*value, *value.values())))
    return isinstance(value, list) and any(map(_cannot_travel, value))


def _bad_range(of: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with the numbers of a distribution, and with which."""
    if hasattr(of, "min_value"):
        if not of.min_value < of.max_value:
            yield (
                f"min_value is {of.min_value:g}; it must be less than max_value, {of.max_value:g}",
                "min_value",
            )
        elif of.type in ("loguniform", "qloguniform"):
            if of.max_value > LARGEST_EXPONENT:
                yield f"max_value is an exponent of e, and exp({of.max_value:g}) is too large", "max_value"
            if of.min_value < -LARGEST_EXPONENT:
                yield f"min_value is an exponent of e, and exp({of.min_value:g}) is 0", "min_value"
        elif of.type == "reverseloguniform" and not 0 <= of.min_value < of.max_value < 1:
            yield "reverseloguniform needs 0 <= min_value < max_value < 1", "min_value"
        elif math.isinf(of.max_value - of.min_value):
            yield "the range is too large", "max_value"
    if hasattr(of, "mu") and "log" in of.type and abs(of.mu) + 10 * of.sigma > LARGEST_EXPONENT:
        yield "mu and sigma are those of the logarithm, and exp() of it is too large", "mu"


def _odd_range(of: Any) -> Iterator[str]:
    if of.type == "loguniform" and 0 < of.min_value < of.max_value <= 1:
        yield (
            f"the bounds of loguniform are exponents of e, so it searches {math.exp(of.min_value):.6g} to "
            f"{math.exp(of.max_value):.6g}; for {of.min_value:g} to {of.max_value:g} write "
            f"{math.log(of.min_value):.4g} and {math.log(of.max_value):.4g}"
        )
