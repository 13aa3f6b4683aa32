"""What travels of a code folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sparktune.errors import InvalidSweep
from sparktune.sweeps.code import files, packed

pytestmark = pytest.mark.unit


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def travelling(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in files(folder) if path.is_file()}


def test_ignore_files(tmp_path: Path) -> None:
    names = (
        "train.py",
        ".env",
        "data/big.csv",
        "data/keep.csv",
        "lib/data/a.py",
        "env/pyvenv.cfg",
        "env/bin/x",
    )
    code = folder_of(tmp_path, *names, ".git/config", "__pycache__/a.pyc")
    assert travelling(code) == {*names[:5]}
    (code / ".gitignore").write_text("# secrets\n.env\n/data/*\n!keep.csv\n")
    assert travelling(code) == {".gitignore", "train.py", "data/keep.csv", "lib/data/a.py"}
    (code / ".amlignore").write_text("data/\n")
    assert travelling(code) == {".amlignore", ".gitignore", ".env", "train.py"}
    (code / ".amlignore").write_bytes(b"\xff")
    with pytest.raises(InvalidSweep, match="amlignore' cannot be read"):
        packed(code)


def test_links_lead_to_the_same_on_a_worker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = folder_of(tmp_path / "outside", "file", "folder/table")
    code = folder_of(tmp_path / "code", "lib/a.py")
    links = {"b.py": code / "lib" / "a.py", "c.py": Path("lib/a.py"), "file": Path("../outside/file")}
    for name, target in {**links, "data": outside / "folder", "gone": Path("../nothing")}.items():
        (code / name).symlink_to(target)
    there = tmp_path / "there"
    there.mkdir()
    packed(code).unpack(str(there))
    assert (os.readlink(there / "b.py"), os.readlink(there / "c.py")) == ("lib/a.py", "lib/a.py")
    assert not (there / "file").is_symlink()
    assert (there / "file").read_text() == "file"
    assert (there / "data" / "table").read_text() == "folder/table"
    assert os.readlink(there / "gone") == str(tmp_path / "nothing")
    assert [message.partition("is a link")[0] for message in caplog.messages] == [
        f"trial.code: {str(code / 'data')!r} ",
        f"trial.code: {str(code / 'gone')!r} ",
    ]
