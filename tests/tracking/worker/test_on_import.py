"""Patches of modules that are loaded, and of modules that get loaded later."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from sparktune.tracking.worker import on_import

pytestmark = pytest.mark.unit


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The names of two modules that can be imported; the first is."""
    names = ("patched_early", "patched_late")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in names:
        (tmp_path / f"{name}.py").write_text("value = 1\nseen = value\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module(names[0])
    return names


def test_modules_are_patched_whenever_they_are_loaded(modules: tuple[str, str]) -> None:
    def change(module: Any) -> None:
        module.value = 2

    patches = dict.fromkeys(modules, change)
    on_import.patch(patches)
    on_import.patch(patches)
    early, late = (importlib.import_module(name) for name in modules)
    assert (early.value, late.value, late.seen) == (2, 2, 1)
    assert late.__spec__ is not None
    assert late.__spec__.origin == late.__file__
    finders = [finder for finder in sys.meta_path if isinstance(finder, on_import._Finder)]
    assert [finder.patches for finder in finders].count(patches) == 1  # others are of earlier tests


def test_a_module_that_cannot_be_patched_is_as_it_was(
    modules: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    def change(module: Any) -> None:
        raise AttributeError("start_run")

    with caplog.at_level(logging.WARNING):
        on_import.patch(dict.fromkeys(modules, change))
        assert importlib.import_module(modules[1]).value == 1
    assert caplog.text.count("start_run") == 2
