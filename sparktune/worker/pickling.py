"""Pickling of the objective, with a diagnosis that names the culprit when it fails."""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from sparktune.worker.sources import named_by

MAX_DEPTH = 8
"""How many levels of references the diagnosis follows."""

_OR = "or, for an objective that uses Spark itself, run the trials on the driver: trials=DriverTrials()"
_REMEDIES = (
    (
        ("SparkSession", "SparkContext", "SQLContext", "HiveContext", "RuntimeConfig"),
        f"it exists on the driver only: read the data before fmin, and let the objective use the data; {_OR}",
    ),
    (
        ("DataFrame", "GroupedData", "Column", "RDD", "PipelinedRDD", "DataFrameReader"),
        "it exists on the driver only: turn it into local data before fmin (df.toPandas(), rdd.collect()), "
        f"or save it and let the objective read the file; {_OR}",
    ),
    (
        ("lock", "RLock", "Condition", "Event", "Semaphore", "Thread", "local", "ThreadPoolExecutor"),
        "locks and threads belong to one process: create it inside the objective",
    ),
    (
        ("TextIOWrapper", "BufferedReader", "BufferedWriter", "FileIO", "BufferedRandom"),
        "an open file belongs to one process: pass its path, and open it inside the objective",
    ),
    (
        ("socket", "Connection", "Cursor", "Engine"),
        "connections belong to one process: connect inside the objective",
    ),
    (("generator", "async_generator", "coroutine"), "turn it into a list before fmin"),
    (
        ("JavaObject", "JavaMember", "JavaClass", "JavaGateway", "JavaModel"),
        "it exists only in the driver's Java process: models of pyspark.ml and the like cannot be used in a "
        f"trial; {_OR}",
    ),
)


_NAMING = (type, types.FunctionType, types.ModuleType, types.CodeType)
_OF_CONNECT = ("SparkSession", "DataFrame", "GroupedData")


def dumps(
    value: Any,
    what: str = "the objective",
    buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
    modules: set[str] | None = None,
) -> bytes:
    """``cloudpickle`` of ``value``.

    Args:
        value: what to pickle.
        what: what it is, for the message.
        buffer_callback: as of ``pickle.Pickler``: False keeps the buffer out of the pickle.
        modules: receives the names of modules that the pickle refers to; others too (``sources.named_by``).

    Raises:
        ObjectiveNotPicklable: naming the variable, its type, and the remedy.
    """
    try:
        return _dumps(value, buffer_callback, modules)
    except Exception as error:
        from sparktune.errors import ObjectiveNotPicklable

        raise ObjectiveNotPicklable(explain(value, what, error)) from error


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """``cloudpickle``'s, which refuses what Spark Connect allows to be pickled and no worker can use.

    Attributes:
        modules: collects names of modules; or None.
    """

    modules: set[str] | None = None

    def reducer_override(self, obj: Any) -> Any:
        """Refuse what cannot travel, and note modules that the pickle refers to."""
        kind = type(obj)
        if kind.__name__ in _OF_CONNECT and kind.__module__.startswith("pyspark.sql.connect"):
            raise pickle.PicklingError(f"a {kind.__name__} of Spark Connect exists on the driver only")
        if self.modules is not None and isinstance(obj, _NAMING):
            self.modules.update(named_by(obj))
        return super().reducer_override(obj)


def _dumps(
    value: Any,
    buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
    modules: set[str] | None = None,
) -> bytes:
    with io.BytesIO() as file:
        pickler = _Pickler(file, protocol=5, buffer_callback=buffer_callback)
        pickler.modules = modules
        pickler.dump(value)
        return file.getvalue()


def explain(value: Any, what: str, error: BaseException) -> str:
    """Why ``value`` cannot be pickled: the path to the smallest part that cannot, its type, the remedy."""
    path, found = culprit(value, what)
    kind = type(found)
    if found is value:
        text = f"{path} cannot be sent to a Spark worker"
    else:
        text = (
            f"{what} cannot be sent to a Spark worker: {path} is a {kind.__name__}, which cannot be pickled"
        )
    reason = " ".join(str(error).split())
    reason = reason if len(reason) <= 200 else reason[:197] + "..."
    return f"{text} ({type(error).__name__}: {reason}). Remedy: {remedy(found)}"


def remedy(unpicklable: Any) -> str:
    """What to do about an object that cannot be pickled."""
    names = {base.__name__ for base in type(unpicklable).__mro__}
    for kinds, advice in _REMEDIES:
        if names.intersection(kinds):
            return advice
    return "create it inside the objective, or keep it in a module that the workers can import"


def culprit(value: Any, path: str) -> tuple[str, Any]:
    """Follow references that cannot be pickled down to the last one."""
    seen: set[int] = set()
    for _ in range(MAX_DEPTH):
        seen.add(id(value))
        for name, part in _parts(value, path):
            if id(part) not in seen and not can_pickle(part):
                path, value = name, part
                break
        else:
            break
    return path, value


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What an object refers to, each with a name a person understands."""
    if isinstance(value, types.MethodType):
        yield f"the object of the method {value.__name__!r}", value.__self__
        yield f"the method {value.__name__!r}", value.__func__
    elif isinstance(value, functools.partial):
        yield "the partial's function", value.func
        yield from ((f"the partial's argument {i}", part) for i, part in enumerate(value.args))
        yield from ((f"the partial's argument {key!r}", part) for key, part in value.keywords.items())
    elif isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, dict):
        yield from ((f"{path}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"{path}[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, type | types.ModuleType | io.IOBase):
        return
    else:
        state = getattr(value, "__dict__", None)
        if isinstance(state, dict) and type(value).__module__.partition(".")[0] not in ("pyspark", "py4j"):
            yield from ((f"the attribute {key!r} of {path}", part) for key, part in state.items())


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    names = inspect.getclosurevars(function) if function.__closure__ or function.__globals__ else None
    if names is not None:
        yield from ((f"the variable {key!r}", part) for key, part in names.nonlocals.items())
        yield from ((f"the global variable {key!r}", part) for key, part in names.globals.items())
    yield from _inner_globals(function)
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.default is not parameter.empty:
            yield f"the default of the argument {parameter.name!r}", parameter.default
    yield from ((f"the attribute {key!r}", part) for key, part in vars(function).items())


def _inner_globals(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Globals that only functions defined inside ``function`` use."""
    codes = [c for c in function.__code__.co_consts if isinstance(c, types.CodeType)]
    while codes:
        code = codes.pop()
        codes.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
        for name in code.co_names:
            if name in function.__globals__:
                yield f"the global variable {name!r}", function.__globals__[name]


def can_pickle(value: Any) -> bool:
    """Whether ``cloudpickle`` can pickle a value."""
    try:
        _dumps(value)
    except BaseException:  # of the user's own classes
        return False
    return True


def unpicklable(result: dict[str, Any], attachments: dict[str, Any]) -> str | None:
    """What in a result cannot be pickled, ``the result['model'] is a lock``; None where all can."""
    if can_pickle((result, attachments)):
        return None
    both = {**result, **{f"attachments[{key!r}]": value for key, value in attachments.items()}}
    path, found = culprit(both, "the result")
    return f"{path} is a {type(found).__name__}"
