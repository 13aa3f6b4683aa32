"""Trains a small neural network on handwritten digits, epoch by epoch.

An ordinary script: it takes arguments, prints its accuracy after every epoch, and saves its model. It knows
nothing of who runs it.

    python train.py --rate 0.01 --hidden 32 --momentum 0.9 --epochs 20
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small neural network on handwritten digits.")
    parser.add_argument("--rate", type=float, required=True, help="learning rate")
    parser.add_argument("--hidden", type=int, default=32, help="units of the hidden layer")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    features, labels = load_digits(return_X_y=True)
    parts = train_test_split(features / 16, labels, test_size=0.3, random_state=0, stratify=labels)
    train_x, test_x, train_y, test_y = parts
    model = MLPClassifier(
        (args.hidden,), solver="sgd", learning_rate_init=args.rate, momentum=args.momentum, random_state=0
    )
    warnings.simplefilter("ignore")  # of weights that grow too large: the accuracy shows it, too
    with threadpool_limits(limits=1):
        for epoch in range(1, args.epochs + 1):
            model.partial_fit(train_x, train_y, classes=np.unique(labels))
            accuracy = model.score(test_x, test_y)
            # Or, where MLflow is installed: mlflow.log_metric("accuracy", accuracy, step=epoch)
            print(f"accuracy={accuracy:.4f} step={epoch}", flush=True)

    outputs = Path("outputs")
    outputs.mkdir(exist_ok=True)
    joblib.dump(model, outputs / "model.joblib")


if __name__ == "__main__":
    main()
