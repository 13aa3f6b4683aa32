"""Whether models of pyspark.ml train faster in parallel: DriverTrials(4) against DriverTrials(1).

    python benchmarks/driver_trials.py [--rounds 3]

The same 12 points of a logistic regression on scikit-learn's breast cancer data, on local[4], one after
another and four in parallel, in turns. Prints seconds and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import _first  # noqa: F401

N = 12


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import SparkSession
    from sklearn.datasets import load_breast_cancer

    from sparktune import DriverTrials, fmin, hp, rand

    builder = SparkSession.builder.master("local[4]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.scheduler.mode", "FAIR").getOrCreate()
    data = load_breast_cancer()
    columns = [f"x{n}" for n in range(data.data.shape[1])]
    rows = [(float(y), *map(float, x)) for x, y in zip(data.data, data.target, strict=True)]
    frame = VectorAssembler(inputCols=columns, outputCol="features").transform(
        spark.createDataFrame(rows, ["label", *columns]).repartition(1)
    )
    frame.cache().count()

    def objective(reg: float) -> Any:
        model = LogisticRegression(regParam=reg, maxIter=20, standardization=True).fit(frame)
        return 1 - BinaryClassificationEvaluator().evaluate(model.transform(frame))

    def seconds(parallelism: int) -> float:
        began = time.monotonic()
        trials = DriverTrials(parallelism, mlflow=False)
        space = hp.loguniform("reg", -7, 0)
        fmin(objective, space, rand.suggest, N, trials=trials, rstate=0, show_progressbar=False)
        if trials.count_successful_trials() != N:
            raise RuntimeError("not every trial completed: nothing to compare")
        return time.monotonic() - began

    seconds(4)  # Java compiles
    ratios = []
    for number in range(1, options.rounds + 1):
        one, four = seconds(1), seconds(4)
        ratios.append(one / four)
        print(f"round {number}: one after another {one:.1f} s, four in parallel {four:.1f} s", flush=True)
    print(f"one after another / four in parallel: {statistics.median(ratios):.2f} (median)")
    spark.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
