"""The tree-structured Parzen estimator."""

from __future__ import annotations

from sparktune.search import tpe
from tests.search.conformance import SuggestConformance


class TestTpe(SuggestConformance):
    suggest = staticmethod(tpe.suggest)
    name = "sparktune.search.tpe:suggest"
