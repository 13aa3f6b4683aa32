"""Several calls of MLflow's SQL store in one transaction.

Each method of the store opens its own sessions, up to three inside one another, and commits each: a run
that is created, filled and ended costs seven commits. In one session the same calls cost one, and what they
read of the run they need not read again; measured with SQLite, ten such runs take about 40 % of the processor
time. Only for runs that are created in the transaction itself: where others may write too, MLflow's own way
to deal with conflicts must be able to roll back.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

from sparktune.private import of_mlflow


class Transaction:
    """A store whose calls share one session inside ``begun``, in the thread that began it.

    Attributes:
        store: a copy of the store given; the original is not touched.
    """

    def __init__(self, store: Any) -> None:
        self.store: Any = copy.copy(store)
        self._open: Callable[..., Any] = store.ManagedSessionMaker
        self._local = threading.local()
        self.store.ManagedSessionMaker = self._session
        # Read anew in each call, although SQLAlchemy has the objects already.
        for name in of_mlflow.READS_OF_RUN:
            if hasattr(store, name):  # else it is slower and the same
                setattr(
                    self.store, name, functools.partial(self._remembered, name, getattr(self.store, name))
                )

    @classmethod
    def of(cls, store: Any) -> Transaction | None:
        """For a store on a database; None for all others."""
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        known = isinstance(store, SqlAlchemyStore) and hasattr(store, "ManagedSessionMaker")
        return cls(store) if known else None

    @contextlib.contextmanager
    def _session(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        shared = getattr(self._local, "session", None)
        if shared is not None:
            yield shared
            return
        with self._open(*args, **kwargs) as session:
            yield session

    def _remembered(self, name: str, read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the transaction has read before, and which cannot have been changed since."""
        known: dict[Any, Any] | None = getattr(self._local, "known", None)
        if known is None:
            return read(*args, **kwargs)
        key = (name, args, tuple(sorted(kwargs.items())))
        if key not in known:
            known[key] = read(*args, **kwargs)
        return known[key]

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """All calls of ``store`` in the block, or none of them when it raises."""
        # Sessions are for reading by default in versions of MLflow that tell reading from writing.
        options = {"read_only": False} if "read_only" in inspect.signature(self._open).parameters else {}
        with self._open(**options) as session:
            commit, rollback = session.commit, session.rollback
            session.commit, session.rollback = session.flush, _refuse
            self._local.session, self._local.known = session, {}
            try:
                yield
            finally:
                self._local.session = self._local.known = None
                session.commit, session.rollback = commit, rollback


def _refuse() -> None:
    raise RuntimeError("a part of a transaction cannot be taken back")
