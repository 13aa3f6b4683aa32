"""What sparktune uses of cloudpickle that is not documented."""

from __future__ import annotations

import cloudpickle

from sparktune.private import presence
from sparktune.private.presence import read

NAMES = {
    "_DYNAMIC_CLASS_TRACKER_BY_ID": (
        "cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID",
        "what a trial changes in a class of the notebook, later trials in the same worker see",
    )
}
"""Name -> whose it is, and what is different without it."""


def forget_classes() -> None:
    """Have classes that are defined in a pickle made anew when it is read again.

    ``cloudpickle`` gives a class that it has unpickled before again, with what was changed in it since.
    """
    try:
        known = read(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID")
    except AttributeError:
        presence.missing("cloudpickle", *NAMES["_DYNAMIC_CLASS_TRACKER_BY_ID"])
    else:
        known.clear()
