"""Which modules are the user's own, what an objective uses of them, and whether they have changed."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
import zipimport
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import sparktune
from sparktune.worker import imports, pickling, sources

pytestmark = pytest.mark.unit


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "own_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "low.py").write_text("VALUE = 1\n")
    (folder / "high.py").write_text("import json\nfrom own_package.low import VALUE\ndef f(): return VALUE\n")
    (folder / "late.py").write_text("VALUE = 2\n")
    (folder / "middle.py").write_text("from own_package import low\nclass C:\n    x = low.VALUE\n")
    (folder / "unused.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    for name in ("high", "late", "middle", "unused"):
        importlib.import_module(f"own_package.{name}")
    yield folder
    for name in [name for name in sys.modules if name.startswith("own_package")]:
        del sys.modules[name]


def used(value: Any) -> set[str]:
    names: set[str] = set()
    pickling.dumps(value, modules=names)
    return {name.removeprefix("own_package") for name in sources.used(names)}


def test_what_an_objective_uses(package: Path) -> None:
    own: Any = importlib.import_module("own_package")

    def calls() -> int:
        return own.high.f()  # type: ignore[no-any-return]

    def imports_late() -> Any:
        from own_package.late import VALUE  # type: ignore[import-not-found]

        return VALUE

    assert used(own.high.f) == {"", ".high", ".low"} | used(own)
    assert used(calls) >= {"", ".high", ".low"}
    assert {"", ".late"} <= used(imports_late)
    assert {"", ".middle", ".low"} <= used(own.middle.C())
    assert used(np.mean) == used(json.dumps) == used(sparktune.fmin) == used(3) == set()


def test_an_edit_is_known_until_the_module_is_reloaded(package: Path) -> None:
    own = sources.used(["own_package.low"])
    assert sources.edited(own) == []
    (package / "low.py").write_text("VALUE = 22\n")
    again = sources.used(["own_package.low"])
    assert sources.edited(again) == ["own_package.low"]
    assert own["own_package.low"].digest != again["own_package.low"].digest
    importlib.reload(sys.modules["own_package.low"])
    assert sources.edited(again) == []


def test_a_worker_names_modules_that_are_not_the_drivers(package: Path) -> None:
    own = sources.used(["own_package.low", "own_package.late"])
    assert imports.differing(own) == []
    own["own_package.low"] = own["own_package.low"]._replace(digest="other", path="/driver/low.py")
    (said,) = imports.differing(own)
    assert "'own_package.low'" in said
    assert str(package / "low.py") in said
    assert "/driver/low.py" in said


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A worker's watch, in this process."""
    mine = imports._Watch()
    monkeypatch.setattr(imports, "_watch", mine)
    imports.watch()
    mine.origins.clear()
    yield mine
    sys.meta_path.remove(mine)


def test_a_worker_is_outdated_where_a_file_changes_or_another_comes_first(watch: Any, package: Path) -> None:
    for name in [name for name in sys.modules if name.startswith("own_package")]:
        del sys.modules[name]
    importlib.import_module("own_package.high")
    assert imports.outdated(sys.path) == []
    (package / "unused.py").write_text("edited = True\n")
    assert imports.outdated(sys.path) == []
    low = package / "low.py"
    before = low.read_text()
    low.write_text("VALUE = 22\n")
    assert imports.outdated(sys.path) == ["own_package.low"]
    importlib.reload(sys.modules["own_package.low"])
    assert imports.outdated(sys.path) == []
    low.write_text(before)
    low.unlink()
    assert imports.outdated(sys.path) == [], "where there is nothing, there is nothing new"

    other = package.parent / "first" / "own_package"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    assert imports.outdated([str(other.parent), *sys.path]) == ["own_package"]


def test_archives_are_not_read_again_for_a_new_study(
    watch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PySpark's own take 0.1 s and more, on each worker that a study begins on."""
    file = tmp_path / "own.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("own_package.py", "")
    monkeypatch.syspath_prepend(file)
    read: list[str] = []
    monkeypatch.setattr(zipimport.zipimporter, "invalidate_caches", lambda self: read.append(self.archive))
    importlib.import_module("own_package")
    try:
        assert imports.outdated(sys.path) == []
        assert read == []
    finally:
        del sys.modules["own_package"]


def test_what_was_imported_before_counts_as_changed_where_it_may_be(watch: Any, package: Path) -> None:
    watch.origins.clear()  # this process began before the package was written
    watch.note_loaded()
    assert "own_package.low" in imports.outdated(sys.path)


def test_an_archive_that_changes(watch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.zip"

    def write(text: str) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("own_package.py", text)

    write("VALUE = 1\n")
    monkeypatch.syspath_prepend(file)
    module = importlib.import_module("own_package")
    try:
        digest = sources.used(["own_package"])["own_package"].digest
        assert imports.outdated(sys.path) == []
        write("VALUE = 22\n")
        assert imports.outdated(sys.path) == ["own_package"]
        assert cloudpickle.dumps(module)
        assert digest
    finally:
        del sys.modules["own_package"]


def test_finders_that_ask_all_others(watch: Any, package: Path) -> None:
    from sparktune.tracking.worker import on_import

    patched: list[str] = []
    on_import.patch({"own_package.extra": lambda module: patched.append(module.__name__)})
    (package / "extra.py").touch()
    importlib.invalidate_caches()
    try:
        importlib.import_module("own_package.extra")
        assert set(patched) == {"own_package.extra"}
        assert importlib.util.find_spec("own_package.nothing") is None
    finally:
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, on_import._Finder)]
