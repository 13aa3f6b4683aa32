"""The sweep file as a typed model: its fields, their types and ranges.

Fields, names and ranges follow the documentation of Azure Machine Learning's "CLI (v2) sweep job YAML schema"
as far as they have a meaning on Spark; ``ignored`` has the others. The descriptions name the fields that are
sparktune's, and become those of the JSON schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = str | int | float | bool
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    """What all parts of the file share: unknown fields are refused, and nothing is guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# -- the search space ----------------------------------------------------------------------------------


class Choice(_Part):
    """One of several values."""

    type: Literal["choice"]
    values: list[Any] = Field(min_length=1, description="The values: text, numbers, true, false, lists.")


class RandInt(_Part):
    """A whole number from 0 to ``upper`` - 1."""

    type: Literal["randint"]
    upper: int = Field(ge=1, le=2**31, description="One more than the largest value.")


class _Range(_Part):
    min_value: Number = Field(description="The lower bound; a logarithm (to base e) for loguniform.")
    max_value: Number = Field(description="The upper bound; a logarithm (to base e) for loguniform.")


class Uniform(_Range):
    """A number between two bounds."""

    type: Literal["uniform"]


class LogUniform(_Range):
    """exp(uniform(min_value, max_value)): the bounds are exponents of e."""

    type: Literal["loguniform"]


class ReverseLogUniform(_Range):
    """A number near 1, such as a momentum: log(1 - x) is uniform. The bounds are values. sparktune's own."""

    type: Literal["reverseloguniform"]


class Auto(_Range):
    """A number on the scale that its range suggests. The bounds are values. sparktune's own."""

    type: Literal["auto"]


class QUniform(_Range):
    """round(uniform(min_value, max_value) / q) * q; a whole number where all three are."""

    type: Literal["quniform"]
    q: Number = Field(gt=0, description="The step.")


class QLogUniform(_Range):
    """round(exp(uniform(min_value, max_value)) / q) * q; a whole number where q is."""

    type: Literal["qloguniform"]
    q: Number = Field(gt=0, description="The step.")


class _Bell(_Part):
    mu: Number = Field(description="The mean; that of the logarithm for lognormal.")
    sigma: Number = Field(gt=0, description="The standard deviation; that of the logarithm for lognormal.")


class Normal(_Bell):
    """A number that is normally distributed."""

    type: Literal["normal"]


class LogNormal(_Bell):
    """exp(normal(mu, sigma))."""

    type: Literal["lognormal"]


class QNormal(_Bell):
    """round(normal(mu, sigma) / q) * q; a whole number where q is."""

    type: Literal["qnormal"]
    q: Number = Field(gt=0, description="The step.")


class QLogNormal(_Bell):
    """round(exp(normal(mu, sigma)) / q) * q; a whole number where q is."""

    type: Literal["qlognormal"]
    q: Number = Field(gt=0, description="The step.")


Distribution = Annotated[
    Choice
    | RandInt
    | Uniform
    | LogUniform
    | ReverseLogUniform
    | Auto
    | QUniform
    | QLogUniform
    | Normal
    | LogNormal
    | QNormal
    | QLogNormal,
    Field(discriminator="type"),
]


# -- the search ----------------------------------------------------------------------------------------


class Sampling(_Part):
    """How values are chosen."""

    type: str = Field(description="random, grid or bayesian; or one of sparktune's algorithms by its name.")
    seed: int | None = Field(default=None, ge=0, lt=2**64, description="The same seed gives the same values.")
    rule: Literal["random", "sobol"] | None = Field(
        default=None, description="For random: independent draws, or a Sobol sequence."
    )


class Objective(_Part):
    """What is to be optimized."""

    primary_metric: str = Field(
        min_length=1, max_length=250, description="The name under which trials log or print the metric."
    )
    goal: Literal["maximize", "minimize"] = Field(description="What is good in it.")


class _Policy(_Part):
    evaluation_interval: int = Field(default=1, ge=0, description="Act at every n-th report; 0 means 1.")
    delay_evaluation: int = Field(0, ge=0, description="Do not act before this report.")


class Bandit(_Policy):
    """End a trial that is behind the best by more than a slack."""

    type: Literal["bandit"]
    slack_factor: Number | None = Field(default=None, gt=0, description="The slack as a ratio.")
    slack_amount: Number | None = Field(default=None, gt=0, description="The slack as a difference.")


class MedianStopping(_Policy):
    """End a trial that is worse than the median of the running averages."""

    type: Literal["median_stopping"]


class TruncationSelection(_Policy):
    """End the worst share of the trials at every evaluation."""

    type: Literal["truncation_selection"]
    truncation_percentage: int = Field(ge=1, le=99, description="How many of 100 trials end.")
    exclude_finished_jobs: bool = Field(default=False, description="Compare with running trials only.")


class Asha(_Part):
    """Asynchronous successive halving. sparktune's own."""

    type: Literal["asha"]
    reduction_factor: Number = Field(default=3, gt=1, description="The best 1/n of each rung continue.")
    min_step: int = Field(default=1, ge=1, description="The first rung, in reports.")
    max_step: int = Field(default=100, ge=2, description="The reports of a full trial.")


EarlyTermination = Annotated[
    Bandit | MedianStopping | TruncationSelection | Asha, Field(discriminator="type")
]


class Limits(_Part):
    """What ends the sweep and its trials."""

    max_total_trials: int = Field(default=1000, ge=1, le=1000, description="The most trials.")
    max_concurrent_trials: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="The most trials at the same time; by default what SparkTrials chooses for the cluster.",
    )
    timeout: Number | None = Field(default=None, gt=0, description="Seconds for the whole sweep.")
    trial_timeout: Number | None = Field(default=None, gt=0, description="Seconds for each trial.")


# -- what a trial is -----------------------------------------------------------------------------------


class Trial(_Part):
    """What runs in each trial: a command, or a Python function."""

    command: str | list[str] | None = Field(
        default=None,
        description="The program and its arguments, with ${{search_space.NAME}} and ${{inputs.NAME}}. A "
        "list is one argument each.",
    )
    function: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="module:function, called with the values by name. sparktune's own.",
    )
    code: str | None = Field(
        default=None, min_length=1, description="A folder that every trial has as its working folder."
    )
    environment_variables: dict[str, Scalar] = Field(
        default_factory=dict, description="For the command; references as in the command."
    )
    shell: bool = Field(default=False, description="Run the command by /bin/sh. sparktune's own.")


class InputPath(_Part):
    """A file or folder that the workers can reach."""

    path: str = Field(min_length=1, description="Passed as it is: a URL, or a path on the workers.")
    type: str = Field(default="uri_folder", description="Azure's; has no effect.")


Input = Scalar | InputPath


class Output(_Part):
    """A file or folder below outputs, which is kept with the trial's run."""

    type: str = Field(default="uri_folder", description="uri_file for a file; else a folder is created.")

    @property
    def is_folder(self) -> bool:
        """Whether the command finds it as an empty folder."""
        return self.type != "uri_file"


class SweepFile(_Part):
    """A sweep: which program to tune, over which values, how, and how long."""

    type: Literal["sweep"] = Field(default="sweep", description="What the file is.")
    name: str | None = Field(
        default=None, description="The parent run's name, where display_name is not given."
    )
    display_name: str | None = Field(default=None, description="The parent run's name.")
    experiment_name: str | None = Field(default=None, min_length=1, description="The MLflow experiment.")
    description: str | None = Field(default=None, description="The parent run's description.")
    tags: dict[str, Scalar] = Field(default_factory=dict, description="The parent run's tags.")
    trial: Trial
    inputs: dict[str, Input] = Field(default_factory=dict, description="The same for every trial.")
    outputs: dict[str, Output | None] = Field(
        default_factory=dict,
        description="${{outputs.NAME}} is the path outputs/NAME in the trial's working folder.",
    )
    search_space: dict[str, Distribution] = Field(min_length=1, description="Name -> distribution.")
    sampling_algorithm: Sampling = Field(
        default_factory=lambda: Sampling(type="random"), description="How values are chosen."
    )
    objective: Objective
    early_termination: EarlyTermination | None = Field(
        default=None, description="What ends weak trials early."
    )
    limits: Limits = Field(default_factory=lambda: Limits(), description="What ends the sweep.")
    parallelism: int | None = Field(
        default=None,
        ge=1,
        description="The same as limits.max_concurrent_trials, without its bound. sparktune's own.",
    )
    tracking_uri: str | None = Field(
        default=None, min_length=1, description="The MLflow server or store. sparktune's own."
    )
    watch_interval: Number = Field(
        default=5.0,
        gt=0,
        description="Seconds between two reads of what trials log to MLflow. sparktune's own.",
    )
    resume: str | None = Field(
        default=None,
        min_length=1,
        description="The parent run of a sweep to resume; last for the latest unfinished one of the "
        "experiment, or a new one. sparktune's own.",
    )
