"""From a document to the model: every error with its place, the value, and what is allowed."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sparktune.sweeps import checks, ignored
from sparktune.sweeps.document import Document, Path
from sparktune.sweeps.model import SweepFile
from sparktune.sweeps.problems import Place, Problem, listed, nearest, refuse, shown


def validated(document: Document) -> tuple[SweepFile, list[Problem]]:
    """The file as a model, and notes: fields that are ignored, values that look wrong.

    Raises:
        InvalidSweep: every problem of the file, with its place.
    """
    data = document.data
    if not isinstance(data, dict):
        what = "empty" if data is None else f"{_kind(data)}, {shown(data)}"
        needs = "type: sweep, trial, search_space, objective and so on"
        raise refuse([Problem(document.place(()), f"the file is {what}; it must be a mapping with {needs}")])
    notes = ignored.left_out(document)
    _spell_out(data)
    try:
        model = SweepFile.model_validate(data)
    except ValidationError as error:
        raise refuse(list(_problems(error, document))) from None
    wrong, noted = checks.look(model, document)
    if wrong:
        raise refuse(wrong)
    return model, [*notes, *noted]


def _spell_out(data: dict[str, Any]) -> None:
    """``sampling_algorithm: random`` is short for a mapping; Azure takes ``goal: Maximize``, too."""
    if isinstance(data.get("sampling_algorithm"), str):
        data["sampling_algorithm"] = {"type": data["sampling_algorithm"]}
    objective = data.get("objective")
    if isinstance(objective, dict):
        goal = objective.get("goal")
        if isinstance(goal, str) and goal.lower() in ("maximize", "minimize"):
            data["objective"] = {**objective, "goal": goal.lower()}


def _problems(error: ValidationError, document: Document) -> Iterator[Problem]:
    seen: set[tuple[Place, Path]] = set()
    for details in error.errors(include_url=False):
        path = document.known(tuple(details["loc"]))
        is_missing = details["type"] == "missing"
        is_unknown = details["type"] == "extra_forbidden"
        place = document.place(path, of_key=is_unknown or is_missing)
        if not is_missing and not is_unknown:
            if (place, path) in seen:  # each branch of a union reports it
                continue
            seen.add((place, path))
        yield Problem(place, _message(details, path, document))


def _message(details: Mapping[str, Any], path: Path, document: Document) -> str:
    name = ".".join(map(str, path)) or "the file"
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return f"{name} needs the field {details['loc'][-1]!r}"
    if kind == "extra_forbidden":
        known = _fields_beside(path, document)
        where = ".".join(map(str, path[:-1])) or "the file"
        close = nearest(path[-1], [*known, *ignored.names_at(path[:-1])])
        if path[0] == "trial" and path[-1] in SweepFile.model_fields:
            close = "; it belongs beside trial, not in it"
        return f"{where} has no field {shown(path[-1])}{close}; allowed: {listed(known)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        known = [tag.strip(" '") for tag in context.get("expected_tags", "").split(",") if tag.strip()]
        known = known or list(_tags_at(path))
        if kind == "union_tag_not_found":
            return f"{name} is {shown(value)}; it needs the field 'type', one of: {listed(known)}"
        tag = context["tag"]
        return f"{name}.type is {shown(tag)}{nearest(tag, known)}; allowed: {listed(known)}"
    if kind == "literal_error":
        known = [each.strip(" '") for each in str(context["expected"]).replace(" or ", ",").split(",")]
        return f"{name} is {shown(value)}{nearest(value, known)}; allowed: {listed(known)}"
    if path == ("trial",) and isinstance(value, str):
        return f"trial is {shown(value)}; it must be a mapping, or the name of a file that ends with .yml"
    template = _MESSAGES.get(kind)
    wanted = template(context) if template else f"it is refused: {details['msg']}"
    return f"{name} is {shown(value)}; {wanted}"


_MESSAGES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda c: f"it must be greater than {c['gt']:g}",
    "greater_than_equal": lambda c: f"it must be at least {c['ge']}",
    "less_than": lambda c: f"it must be less than {c['lt']}",
    "less_than_equal": lambda c: f"it must be at most {c['le']}",
    "finite_number": lambda _: "it must be a finite number",
    "int_type": lambda _: "it must be a whole number",
    "int_from_float": lambda _: "it must be a whole number",
    "float_type": lambda _: "it must be a number",
    "bool_type": lambda _: "it must be true or false",
    "string_type": lambda _: "it must be text (put numbers, true, false and null into quotes)",
    "string_too_short": lambda _: "it must not be empty",
    "string_too_long": lambda c: f"it must have at most {c['max_length']} characters",
    "string_unicode": lambda _: "it must be text that can be written as UTF-8",
    "string_pattern_mismatch": lambda _: "it must have the form module:function",
    "too_short": lambda _: "it must not be empty",
    "list_type": lambda _: "it must be a list",
    "dict_type": lambda _: "it must be a mapping",
    "model_type": lambda _: "it must be a mapping",
    "model_attributes_type": lambda _: "it must be a mapping",
}


def _kind(value: object) -> str:
    return {"str": "text", "list": "a list", "int": "a number", "float": "a number"}.get(
        type(value).__name__, type(value).__name__
    )


def _fields_beside(path: Path, document: Document) -> list[str]:
    """The fields that are allowed in place of an unknown one."""
    found: Any = SweepFile
    at: Any = document.data
    for step in path[:-1]:
        at = at[step] if isinstance(at, dict) else None
        found = _chosen(_below(found, step), at)
    return list(getattr(found, "model_fields", ()))


def _below(model: Any, step: str | int) -> Any:
    """The annotation of what is under a step."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        field = model.model_fields.get(str(step))
        return None if field is None else field.annotation
    if typing.get_origin(model) in (dict, list):
        return typing.get_args(model)[-1]
    return None


def _chosen(annotation: Any, value: Any) -> Any:
    """The model, or the mapping, that a value is meant to be, of an annotation."""
    options = list(_options(annotation))
    models = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
    if isinstance(value, dict):
        for model in models:
            if value.get("type") in _literals(model.model_fields.get("type")):
                return model
    if models:
        return models[0]
    return next((option for option in options if typing.get_origin(option) is dict), None)


def _options(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _options(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for option in typing.get_args(annotation):
            yield from _options(option)
    else:
        yield annotation


def _literals(field: FieldInfo | None) -> tuple[Any, ...]:
    return () if field is None else typing.get_args(field.annotation)


def _tags_at(path: Path) -> Iterator[str]:
    """The types that there are at a place."""
    found: Any = SweepFile
    for step in path:
        found = _below(found, step)
        if typing.get_origin(found) not in (dict, list):
            break
    for option in _options(found):
        if isinstance(option, type) and issubclass(option, BaseModel):
            yield from _literals(option.model_fields.get("type"))
