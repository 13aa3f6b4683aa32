# A user's file, for type checkers. Lines that end with "# error" are to be refused, and no others.
from typing import Any

import sparktune.tpe
from sparktune.hp import uniform
from sparktune.pyll import scope
from sparktune.pyll.base import as_apply
from sparktune.tpe import suggest

import sparktune
from sparktune import (
    STATUS_OK,
    DriverTrials,
    MedianStoppingPolicy,
    SimulatedTrials,
    SparkTrials,
    Sweep,
    Trials,
    compare,
    fmin,
    hp,
    report,
    space_eval,
    tpe,
)
from sparktune.early_termination import BanditPolicy
from sparktune.sklearn import SearchCV

SPACE: dict[str, Any] = {"x": hp.uniform("x", 0, 1), "n": scope.int(hp.quniform("n", 1, 9, 1))}
EXPRESSION = as_apply(SPACE)


def objective(point: dict[str, Any]) -> dict[str, Any]:
    for step in range(3):
        report(point["x"] / (step + 1), step=step)
    return {"status": STATUS_OK, "loss": point["x"]}


trials = SparkTrials(parallelism=2, early_termination=MedianStoppingPolicy(delay_evaluation=2))
best = fmin(objective, SPACE, algo=tpe.suggest, max_evals=10, trials=trials)
print(space_eval(SPACE, best), trials.best_params, trials.to_dataframe().shape, trials.run_id)

others = [DriverTrials(2), SimulatedTrials(4), Trials(), BanditPolicy(slack_factor=0.1)]
functions = [
    suggest,
    sparktune.tpe.suggest,
    sparktune.rand.suggest,
    sparktune.sobol.suggest,
    uniform,
    compare,
]
sweep = Sweep.from_yaml("sweep.yml")
search = SearchCV(object(), {"C": [1, 2]}, n_iter=2)

SparkTrials(parallelism="two")  # error
MedianStoppingPolicy(delay=5)  # error
report("bad", step="one")  # error
sweep.run(1, 2, 3)  # error
print(tpe.sugest)  # error
