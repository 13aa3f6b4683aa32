"""Columns of parameters in tables of trials, where a parameter may be called ``loss`` or ``state``."""

from __future__ import annotations

from collections.abc import Collection, Iterable

PREFIX = "param_"
"""As in scikit-learn's ``cv_results_``."""


def parameter_columns(labels: Iterable[str], others: Collection[str]) -> dict[str, str]:
    """Label -> the name of its column: with ``param_`` before it where another column has the name.

    Args:
        labels: of the parameters, in their order.
        others: the columns that the table has besides.
    """
    taken = {*others, *(labels := list(labels))}
    found = {}
    for label in labels:
        name = label
        if label in others:
            name = PREFIX + label
            while name in taken:
                name = PREFIX + name
        taken.add(name)
        found[label] = name
    return found


def label_of(column: str, others: Collection[str]) -> str:
    """The label of a parameter's column; the reverse of ``parameter_columns``."""
    label = column
    while label.startswith(PREFIX):
        label = label.removeprefix(PREFIX)
    return label if label in others else column
