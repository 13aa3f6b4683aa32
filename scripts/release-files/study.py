# What a user's first script does; run in an environment that has nothing else.
from sparktune.tpe import suggest

import sparktune
from sparktune import STATUS_OK, SparkTrials, fmin, hp, tpe

assert suggest is tpe.suggest


def objective(x):
    return {"status": STATUS_OK, "loss": (x - 3) ** 2}


if __name__ == "__main__":
    trials = SparkTrials(parallelism=2)
    best = fmin(objective, hp.uniform("x", -10, 10), algo=tpe.suggest, max_evals=10, trials=trials)
    assert len(trials.trials) == 10
    assert trials.run_id is not None
    print(f"sparktune {sparktune.__version__}: {len(trials.trials)} trials, best x {best['x']:.2f}")
