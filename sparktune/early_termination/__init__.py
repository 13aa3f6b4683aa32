"""Early termination: policies that stop weak trials while they run.

Which one when: ``MedianStoppingPolicy(delay_evaluation=5)`` is the safe first choice (Azure's documentation
puts its saving at 25 to 35 % of the compute with no loss of the primary metric); ``BanditPolicy`` where you
know how far behind the best a trial may lie; ``TruncationSelectionPolicy`` where a fixed share is to end at
every evaluation; ``AshaPolicy`` to try very many configurations with little compute each.
"""

from sparktune.early_termination.asha import AshaPolicy
from sparktune.early_termination.bandit import BanditPolicy
from sparktune.early_termination.base import Curve, Decision, EarlyTerminationPolicy
from sparktune.early_termination.median import MedianStoppingPolicy
from sparktune.early_termination.truncation import TruncationSelectionPolicy

__all__ = [
    "AshaPolicy",
    "BanditPolicy",
    "Curve",
    "Decision",
    "EarlyTerminationPolicy",
    "MedianStoppingPolicy",
    "TruncationSelectionPolicy",
]
