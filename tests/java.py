"""Options of Java with which Spark starts sooner in tests.

``python -m tests.java`` writes an archive of the classes that Spark loads (Java's class data sharing, JDK 13
and newer), into the environment that Spark is in. A virtual machine that finds it maps the classes instead of
reading and checking them one by one; one that does not (another Java, another Spark) starts as without it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PLAIN = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""Few threads, and no time on optimising what runs for a minute."""

SESSION = """
from pyspark.sql import SparkSession
session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
session.sparkContext.parallelize(range(2), 2).map(abs).collect()
session.range(2).collect()
session.stop()
"""


def _archive() -> Path:
    """Where the archive of this Java and this Spark is, or would be."""
    home = os.environ.get("JAVA_HOME")
    java = Path(shutil.which("java", path=f"{home}/bin" if home else None) or "java").resolve()
    made = java.stat().st_mtime_ns if java.exists() else 0
    try:
        version = metadata.version("pyspark")
    except metadata.PackageNotFoundError:
        version = "none"
    key = hashlib.sha256(f"{java} {made}".encode()).hexdigest()[:12]
    return Path(sys.prefix, f"sparktune-tests-spark-{version}-{key}.jsa")


ARCHIVE = _archive()
# Without logging: Java says on standard output when it cannot use the archive.
QUICK_JAVA = f"{PLAIN} -XX:SharedArchiveFile={ARCHIVE} -Xlog:disable" if ARCHIVE.exists() else PLAIN


def main() -> None:
    """Write the archive, if it is not there. What goes wrong is no error: tests run without it."""
    if ARCHIVE.exists() or find_spec("py4j") is None:  # pyspark-client starts no Java
        return
    unfinished = ARCHIVE.with_name(f"{ARCHIVE.name}.{os.getpid()}")
    env = {
        **os.environ,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_SUBMIT_OPTS": f"{PLAIN} -XX:ArchiveClassesAtExit={unfinished} -Xlog:disable",
    }
    # Java holds the pipe until it has written the archive.
    done = subprocess.run([sys.executable, "-c", SESSION], env=env, capture_output=True, check=False)
    if done.returncode == 0 and unfinished.exists():
        unfinished.replace(ARCHIVE)
    else:
        unfinished.unlink(missing_ok=True)
        print("tests.java: no archive was written, so each start of Spark takes longer", file=sys.stderr)


if __name__ == "__main__":
    main()
