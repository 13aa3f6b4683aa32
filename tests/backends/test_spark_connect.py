"""Spark Connect, on a real server: the shared suite, and what only Connect can show."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from sparktune.backends.spark_connect import ConnectApplication
from sparktune.backends.spark_jobs import SparkBackend
from sparktune.worker.objective import Objective
from tests.backends.conformance import BackendConformance
from tests.connect_server import connect_server

pytest.importorskip("grpc", reason="Spark Connect's own packages are not installed")
pytest.importorskip("pyspark", minversion="4.0")

# Workers are not to import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session with a server of this module's."""
    from pyspark.sql.connect.session import SparkSession

    with connect_server(tmp_path_factory.mktemp("connect")) as address:
        session = SparkSession.builder.remote(address).create()
        yield session
        session.stop()


class TestConformance(BackendConformance):
    attempts = 4  # the server's master is local[2,4]

    @pytest.fixture
    def context(self, remote: Any) -> Any:
        return remote

    def create(self, objective: Objective, context: Any) -> SparkBackend:
        return SparkBackend(ConnectApplication(context), objective)

    def dying(self) -> Callable[[float], float]:
        def fn(x: float) -> float:
            if x < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        return fn

    def endless(self) -> Callable[[float], float]:
        def fn(x: float) -> float:
            if x < 0:
                time.sleep(3600)
            return x

        return fn
