"""Pictures of a study, drawn with plotly, and a report of all of them in one file.

    from sparktune import plots

    plots.any_time(trials).show()
    plots.parallel_coordinates(run_id).write_html("parallel.html")
    plots.report(trials, "report.html")

Each takes a trials object, the id of an MLflow parent run, or a data frame of trials; see ``figures``.
"""

from sparktune.plots.figures import (
    any_time,
    learning_curves,
    parallel_coordinates,
    param_importance,
    param_importances,
    scatter,
    scatter_3d,
    slices,
    timeline,
)
from sparktune.plots.page import report
from sparktune.plots.space import plot_space

__all__ = [
    "any_time",
    "learning_curves",
    "parallel_coordinates",
    "param_importance",
    "param_importances",
    "plot_space",
    "report",
    "scatter",
    "scatter_3d",
    "slices",
    "timeline",
]
