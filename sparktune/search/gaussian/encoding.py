"""Configurations as points of a Euclidean space: what "near" means in a mixed, conditional search space.

The kernel sees the squared distance between two points, a sum over parameters with a length scale each.
Because the distance is that of an embedding, the kernel is positive definite whatever the space:

- a *number* is its coordinate, scaled to [0, 1] (rounded first where it is quantized: the kernel is as flat
  within a step as the objective is);
- a *conditional number* lies on an arc, and in its centre where it is inactive (Swersky et al. 2014, "Raiders
  of the lost architecture: kernels for Bayesian optimization in conditional parameter spaces", section 2):
  two configurations without the parameter do not differ in it, one with and one without differ by a constant;
- *options* are corners of a simplex: any two different ones are as far apart as numbers half the range
  apart, nearly the mean distance of random numbers, so that one prior of length scales serves both; and an
  option is a little nearer to having no such choice. With three options or more their order is a second
  feature, with its own length scale: options are often written in order (16, 32, 64), and the data show
  whether that means anything;
- many options are taken as ordered only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparktune.search.gaussian.warping import Warped
from sparktune.space.parameters import Array, Parameter
from sparktune.space.search_space import SearchSpace

NORMAL_REACH = 3.0
"""A parameter without bounds is scaled so that its prior's mean -+ this many sigma becomes [0, 1]."""
MOST_INDICATORS = 24
"""A choice of more options is taken as an ordered number."""
OPTION_DISTANCE = 0.5
"""Between two different options."""
RADIUS = 2 / np.pi
"""Of the arc, a quarter of a circle: its length is 1, as that of an unconditional number."""


@dataclass(frozen=True)
class Points:
    """Configurations, encoded but for the warping.

    Attributes:
        numbers: ``(n, k)`` scaled; 0.5 where inactive.
        active: ``(n, k)``.
        indicators: ``(n, n_indicators)``.
    """

    numbers: Array
    active: NDArray[np.bool_]
    indicators: Array

    def __getitem__(self, rows: NDArray[np.intp] | slice) -> Points:
        return Points(self.numbers[rows], self.active[rows], self.indicators[rows])


class Encoding:
    """The embedding of a space.

    A *feature* is a coordinate of the Euclidean space; features of one *group* share a length scale.

    Args:
        space: the search space.

    Attributes:
        columns: of the space, that have an ordered feature: the ``k`` numbers of ``Points``.
        warpable: ``(k,)``, which of them may be warped: true numbers, not options.
        groups: ``(n_features,)`` the group of each feature.
        n_groups: how many there are.
        n_parameters: how many parameters the space has.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        parameters = space.parameters
        self.n_parameters = len(parameters)
        self.columns = [i for i, p in enumerate(parameters) if _is_ordered(p)]
        self._choices = [i for i, p in enumerate(parameters) if _has_indicators(p)]
        self._scaling = [_scaling(parameters[i]) for i in self.columns]
        self.warpable = np.array([parameters[i].kind != "options" for i in self.columns], bool)
        self._arched = np.array([bool(parameters[i].conditions) for i in self.columns], bool)
        k = len(self.columns)
        sizes = [parameters[i].n_options for i in self._choices]
        indicators = np.repeat(np.arange(len(sizes)), sizes) + k
        self.groups: NDArray[np.intp] = np.concatenate(
            [np.arange(k), np.flatnonzero(self._arched), indicators]
        ).astype(np.intp)
        self.n_groups = k + len(sizes)

    def points(self, values: Array) -> Points:
        """``(n, n_params)`` configurations, encoded."""
        parameters, n = self._space.parameters, len(values)
        chosen = values[:, self.columns]
        active = ~np.isnan(chosen)
        numbers = np.full(chosen.shape, 0.5)
        for j, (column, (low, width)) in enumerate(zip(self.columns, self._scaling, strict=True)):
            found = active[:, j]
            scaled = (parameters[column].coordinate(chosen[found, j]) - low) / width
            # The user's points may be outside the range.
            numbers[found, j] = np.clip(scaled, 0, 1) if parameters[column].kind == "uniform" else scaled
        blocks = [np.empty((n, 0))]
        for column in self._choices:
            options = parameters[column].coordinate(values[:, column])
            hot = options[:, None] == np.arange(parameters[column].n_options)
            blocks.append(hot * (OPTION_DISTANCE / 2**0.5))
        return Points(numbers, active, np.concatenate(blocks, axis=1))

    def value(self, j: int, numbers: Array) -> Array:
        """The values of the ``j``-th number of ``Points`` from its scaled coordinates."""
        low, width = self._scaling[j]
        parameter = self._space.parameters[self.columns[j]]
        coordinates = low + numbers * width
        if parameter.kind == "uniform":
            coordinates = np.clip(coordinates, parameter.low, parameter.high)
        return parameter.value(coordinates)

    def features(self, points: Points, warped: Array) -> Array:
        """``(n, n_features)`` coordinates, of points whose numbers were warped to ``(n, k)``."""
        arc = warped[:, self._arched] * (np.pi / 2)
        first = warped.copy()
        first[:, self._arched] = RADIUS * np.cos(arc)
        second = RADIUS * np.sin(arc)
        first[:, self._arched] *= points.active[:, self._arched]
        second *= points.active[:, self._arched]
        return np.concatenate([first, second, points.indicators], axis=1)

    def pull_back(self, points: Points, warped: Warped, by_features: Array) -> Array:
        """Derivatives by ``(n, k)`` warped numbers from those by ``(n, n_features)`` features."""
        k = len(self.columns)
        found = by_features[:, :k] * points.active
        if self._arched.any():
            arc = warped.values[:, self._arched] * (np.pi / 2)
            second = by_features[:, k : k + arc.shape[1]]
            along = np.cos(arc) * second - np.sin(arc) * by_features[:, :k][:, self._arched]
            found[:, self._arched] = along * points.active[:, self._arched]
        return found


def _is_ordered(parameter: Parameter) -> bool:
    if parameter.kind != "options":
        return True
    return parameter.n_options > MOST_INDICATORS or (parameter.n_options > 2 and not parameter.is_branching)


def _has_indicators(parameter: Parameter) -> bool:
    return 1 < parameter.n_options <= MOST_INDICATORS


def _scaling(parameter: Parameter) -> tuple[float, float]:
    """The coordinate that becomes 0, and what is to be added for 1."""
    if parameter.kind == "options":
        return 0.0, float(parameter.n_options - 1)
    if parameter.kind == "uniform":
        return parameter.low, parameter.high - parameter.low
    return parameter.mu - NORMAL_REACH * parameter.sigma, 2 * NORMAL_REACH * parameter.sigma
