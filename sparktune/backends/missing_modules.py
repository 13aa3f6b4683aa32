"""How a module that only the driver has gets to the workers."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from sparktune.backends.spark_application import Application


def ways_to_bring(module: str, application: Application) -> Iterator[str]:
    """Phrases: an installed package is brought by pip, a folder as a zip file, a single file as it is."""
    package = _installed(module)
    if package is not None:
        yield f"pip install {package} on every worker, where it is an installed package as on the driver"
        return
    folder = _folder(module)
    if folder is None:
        yield from application.missing_module_advice(f"{module}.py")
    else:
        made = f"shutil.make_archive({module!r}, 'zip', {str(folder.parent)!r}, {module!r})"
        for way in application.missing_module_advice(f"{module}.zip"):
            yield f"{made}, then {way}"
    yield f"cloudpickle.register_pickle_by_value({module}) before fmin"
    yield "install it on every worker"


def _folder(module: str) -> Path | None:
    """The folder of one of the driver's packages; None for a module that is a file, or is missing."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # made manually, it may lack a spec
        return None
    folders = (spec and spec.submodule_search_locations) or ()
    return next(map(Path, folders), None)


@functools.cache
def _installed(module: str) -> str | None:
    """``numpy==2.1.0`` where a module came with an installed distribution; None for the user's code.

    A project that is installed in place (``pip install -e``) is one of the user's folders.
    """
    for name in importlib.metadata.packages_distributions().get(module, ()):
        found = importlib.metadata.distribution(name)
        if '"editable": true' not in (found.read_text("direct_url.json") or ""):
            return f"{name}=={found.version}"
    return None
