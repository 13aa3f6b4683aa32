"""A search space as text, parameter by parameter: to compare it with the one of an earlier study."""

from __future__ import annotations

from typing import Any

from sparktune._naming import without_addresses
from sparktune.errors import InvalidSpace
from sparktune.space.search_space import SearchSpace
from sparktune.space.view import SpaceView

MAX_OPTIONS = 100
"""Of more options only their number is given."""


def signature(view: SpaceView) -> dict[str, str]:
    """Label -> how the parameter is distributed, and when it is active; the same in every process.

    For a space that only hyperopt's algorithms can search, only the labels.
    """
    try:
        space = SearchSpace(view.expression)
    except InvalidSpace:
        return dict.fromkeys(view.labels, "a parameter")
    parameters = {parameter.label: parameter for parameter in space.parameters}
    found = {}
    for label, parameter in parameters.items():
        text = parameter.text
        if parameter.n_options and parameter.n_options <= MAX_OPTIONS:
            options = range(parameter.first, parameter.first + parameter.n_options)
            shown = [_text(view.params({label: option}).get(label)) for option in options]
            text += f" of {', '.join(shown)}"
        if parameter.conditions:
            where = [
                f"{space.parameters[column].label}={option + space.parameters[column].first}"
                for column, option in parameter.conditions
            ]
            text += f", where {' or '.join(where)}"
        found[label] = text
    return found


def _text(value: Any) -> str:
    try:
        return without_addresses(repr(value))
    except Exception:  # an option may be any object
        return f"<{type(value).__name__}>"
