"""Runs a type checker on typed.py and compares the lines it refuses with those that are marked.

check_types.py PYTHON mypy|pyright

PYTHON is the interpreter of the environment in which sparktune is installed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = Path(__file__).with_name("typed.py")


def refused_by_mypy(python: str, file: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "mypy", "--python-executable", python, "--ignore-missing-imports", file]
    out = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False).stdout
    assert "Success" in out or "Found" in out, out
    found = re.findall(rf"{file.name}:(\d+): error: (.*)", out)
    assert len(found) == out.count(": error: "), out
    return {int(line): text for line, text in found}


def refused_by_pyright(python: str, file: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "pyright", "--pythonpath", python, "--outputjson", file]
    out = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False).stdout
    found = json.loads(out[out.index("{") :])["generalDiagnostics"]
    return {d["range"]["start"]["line"] + 1: d["message"] for d in found if d["severity"] == "error"}


def main() -> None:
    python, checker = os.path.abspath(sys.argv[1]), sys.argv[2]
    expected = {n for n, line in enumerate(FILE.read_text().splitlines(), 1) if line.endswith("# error")}
    with tempfile.TemporaryDirectory() as folder:  # away from the sources: what is installed is looked at
        file = Path(folder, FILE.name)
        file.write_text(FILE.read_text())
        refused = (refused_by_mypy if checker == "mypy" else refused_by_pyright)(python, file)
    for line in sorted(expected - refused.keys()):
        print(f"{checker} does not refuse line {line} of {FILE.name}")
    for line in sorted(refused.keys() - expected):
        print(f"{checker} refuses line {line} of {FILE.name}: {refused[line]}")
    if expected != refused.keys():
        sys.exit(1)
    print(f"{checker}: {FILE.name} as expected, {len(expected)} lines refused")


if __name__ == "__main__":
    main()
