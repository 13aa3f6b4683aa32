"""hyperopt's algorithms under our suite: so that the suite asks for nothing beyond hyperopt's form."""

from __future__ import annotations

import hyperopt
import pytest

from tests.search.conformance import SuggestConformance

pytestmark = pytest.mark.unit


class TestHyperoptRand(SuggestConformance):
    suggest = staticmethod(hyperopt.rand.suggest)
    computed_choices = False  # its values are numpy's there, and kwswitch raises


class TestHyperoptTpe(SuggestConformance):
    suggest = staticmethod(hyperopt.tpe.suggest)
    many_ids = False
    computed_choices = False
