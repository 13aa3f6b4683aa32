from __future__ import annotations

from sparktune.search import local
from tests.search.conformance import SuggestConformance


class TestLocal(SuggestConformance):
    suggest = staticmethod(local.suggest)
    name = "sparktune.search.local:suggest"
