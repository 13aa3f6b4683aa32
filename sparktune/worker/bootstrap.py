"""The first of sparktune's code in a worker: has the driver's version of the package imported there.

Its functions are pickled by value, because they are defined in another function: a worker that reads them has
no sparktune yet, or another version. So they import what they use themselves, and nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Functions(NamedTuple):
    """What is pickled by value.

    Attributes:
        load: ``load(digest, fetch, body)`` unpickles a task's body, once the package is there. As short as
            can be, because it is read for every task. ``fetch``: the one below with its arguments, pickled.
        fetch: imports the package into this process first.
        not_run: a body for ``mapInArrow`` that runs nothing, and has its worker process ended.
        put: where on this machine a file with this name and content is, for as long as the application runs.
    """

    load: Callable[[str, bytes, bytes], Any]
    fetch: Callable[..., Any]
    not_run: Callable[[Any], Any]
    put: Callable[[str, Any], str]


def functions() -> Functions:
    """The functions; see ``Functions``."""

    def load(digest: str, fetch: bytes, body: bytes) -> Any:
        import pickle
        import sys

        if getattr(sys.modules.get("sparktune"), "package_digest", "") == digest:
            return pickle.loads(body)
        return pickle.loads(fetch)(body)

    def fetch(digest: str, folder: str | None, archive: Any, instead: bytes | None, body: bytes) -> Any:
        """The body of a task.

        Args:
            digest: of the driver's package.
            folder: where the driver found it, for workers that see the driver's files.
            archive: for the others: a broadcast variable with the package as a zip file, or the name of
                a file artifact that is one. None with a ``folder``.
            instead: another pickled function, that is given where this process has used another version:
                modules of the user's that it has imported hold that one's functions. None to use this process
                with the right version too.
            body: the pickled function.
        """
        import importlib.util
        import pickle
        import sys
        from importlib.machinery import PathFinder

        if folder is not None:
            place = folder
        elif isinstance(archive, str):
            from pyspark import SparkFiles

            place = SparkFiles.get(archive)
        else:
            place = put(f"sparktune-{digest}.zip", archive.value)
        spec = PathFinder.find_spec("sparktune", [place])
        if spec is None or spec.loader is None:
            raise ImportError(f"a Spark worker does not find sparktune in {place}")
        before = sys.modules.get("sparktune")
        if before is None or before.__spec__ is None or before.__spec__.origin != spec.origin:
            if before is not None and instead is not None:
                return pickle.loads(instead)
            for name in [name for name in sys.modules if name.partition(".")[0] == "sparktune"]:
                del sys.modules[name]
            sys.modules["sparktune"] = package = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(package)
            except BaseException:
                sys.modules.pop("sparktune", None)
                raise
        if place not in sys.path:  # for processes that the objective starts with the path of this one
            sys.path.insert(0 if folder is None else len(sys.path), place)
        sys.modules["sparktune"].package_digest = digest  # type: ignore[attr-defined]
        return pickle.loads(body)

    def put(name: str, content: Any) -> str:
        """Write a file into the application's folder for files, or into one of this user.

        Its name contains a digest of the content: an existing file is used as it is.
        """
        import os
        import tempfile

        from pyspark import SparkFiles

        own = os.path.join(tempfile.gettempdir(), f"sparktune-{os.getuid()}")
        for folder in (SparkFiles.getRootDirectory(), own):
            try:
                if folder == own:
                    os.makedirs(own, 0o700, exist_ok=True)
                    if os.lstat(own).st_uid != os.getuid():  # of another user, who could change the file
                        continue
                path = os.path.join(folder, name)
                if not os.path.exists(path):
                    handle, part = tempfile.mkstemp(dir=folder)
                    with open(handle, "wb") as file:
                        file.write(content)
                    os.replace(part, path)  # other workers see all of it, or nothing
            except OSError:
                continue
            return path
        raise OSError(f"a Spark worker can write neither to Spark's folder for files nor to {own}")

    def not_run(_batches: Any) -> Any:
        import pyarrow

        yield pyarrow.RecordBatch.from_pydict({"outcome": [b""]})  # task.NOT_RUN

    return Functions(load, fetch, not_run, put)
