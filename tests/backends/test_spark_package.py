"""sparktune on its way to workers: the same from wherever it was imported, in files that nobody loses."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

import sparktune
from sparktune.backends import spark_package
from sparktune.backends.spark_package import Package
from sparktune.worker import bootstrap
from tests.conftest import ROOT

pytestmark = pytest.mark.system

TELL = """
import sys
import sparktune
from sparktune.backends import spark_package
print(spark_package.digest(), spark_package.folder())
open(sys.argv[1], "wb").write(spark_package.archived())
"""


def python(code: str, path: Path | str, *arguments: Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


def test_the_package_imported_from_a_zip_file_is_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    first.write_bytes(spark_package.archived())
    assert python(TELL, first, second) == f"{spark_package.digest()} {first}"
    with zipfile.ZipFile(first) as mine, zipfile.ZipFile(second) as theirs:
        assert set(theirs.namelist()) == set(mine.namelist())
        assert "sparktune/worker/task.py" in theirs.namelist()
    assert python("import sparktune.worker.task as task; print(task.__file__)", second).startswith(
        str(second)
    )


READ = """
import pickle, sys
package = sys.modules.get("sparktune")
body = pickle.loads(open(sys.argv[1], "rb").read())
print(body.__code__.co_filename)
print(sys.modules["sparktune"] is package)
"""


def test_a_process_with_another_version_goes_on_with_the_right_one(tmp_path: Path) -> None:
    """A worker's: it has read neither this package nor anything of it."""
    (tmp_path / "other" / "sparktune").mkdir(parents=True)
    (tmp_path / "other" / "sparktune" / "__init__.py").write_text("")
    from pyspark import cloudpickle

    task = tmp_path / "task"
    task.write_bytes(cloudpickle.dumps(Package(str(ROOT)).carrying(bootstrap.functions)))
    file, is_kept = python(f"import sparktune\n{READ}", tmp_path / "other", task).split()
    assert (file, is_kept) == (bootstrap.__file__, "False")
    file, is_kept = python(f"import sparktune\n{READ}", ROOT, task).split()
    assert (file, is_kept) == (bootstrap.__file__, "True")
    alone = cloudpickle.dumps(Package(str(ROOT), is_alone=True).carrying(bootstrap.functions))
    task.write_bytes(alone)
    told = python(f"import sparktune\n{READ}", tmp_path / "other", task)
    assert told.split()[1] == "True", "the process is left to end"
    body = pickle.loads(alone)
    assert body is bootstrap.functions
    assert sparktune.__dict__.pop("package_digest") == spark_package.digest()


def test_files_where_sparks_folder_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyspark import SparkFiles

    put = bootstrap.functions().put
    folder = tmp_path / "files"
    monkeypatch.setattr(SparkFiles, "getRootDirectory", lambda: str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = tmp_path / f"sparktune-{os.getuid()}"
    assert put("a.zip", b"a") == str(own / "a.zip")
    assert own.stat().st_mode & 0o777 == 0o700
    assert (own / "a.zip").read_bytes() == b"a"
    folder.mkdir()
    assert put("a.zip", b"a") == put("a.zip", b"a") == str(folder / "a.zip")
    assert [path.name for path in folder.iterdir()] == ["a.zip"]
    if os.getuid() == 0:  # only root can give a folder away
        os.chown(own, 1, 1)
        folder.joinpath("a.zip").unlink()
        folder.rmdir()
        with pytest.raises(OSError, match="can write neither"):
            put("a.zip", b"a")
