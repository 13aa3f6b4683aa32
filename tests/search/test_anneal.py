from __future__ import annotations

from sparktune.search import anneal
from tests.search.conformance import SuggestConformance


class TestAnneal(SuggestConformance):
    suggest = staticmethod(anneal.suggest)
    name = "sparktune.search.anneal:suggest"
