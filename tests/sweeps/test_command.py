"""Commands, without Spark: what they get, how they end, and that nothing of them stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sparktune.sweeps.code import packed
from sparktune.sweeps.references import arguments, template
from sparktune.sweeps.worker.command import Command, CommandFailed, as_text
from sparktune.sweeps.worker.output import MetricLines, tail
from sparktune.worker import reporting
from tests.processes import is_over
from tests.sweeps.files import code_folder
from tests.sweeps.test_references import NASTY

TELL = """
import json, os, sys
params = {name: value for name, value in os.environ.items() if name.startswith("SPARKTUNE_")}
open(os.environ["TOLD"], "w").write(json.dumps([sys.argv[1:], params, os.getcwd()]))
print("score=1")
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch) -> Path:
    """Where trials have their folders; it is to be empty at the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return folder


def command(text: Any, source: str | None = None, folder: Path | None = None, **options: Any) -> Command:
    code = None if source is None or folder is None else packed(code_folder(folder / "code", source))
    return Command(arguments(text), "score", code=code, **options)


@pytest.mark.parametrize("value", NASTY)
def test_values_arrive_as_they_are(value, tmp_path, scratch, monkeypatch) -> None:
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    run = command(
        "python train.py ${{search_space.x}} --x=${{search_space.x}} ${{inputs.i}}",
        TELL,
        tmp_path,
        inputs={"i": value},
        env={"SPARKTUNE_MINE": template("<${{search_space.x}}>")},
    )
    assert run({"x": value})["score"] == 1.0
    argv, params, cwd = json.loads((tmp_path / "told").read_text())
    assert argv == [value, f"--x={value}", value]
    assert params["SPARKTUNE_PARAM_x"] == value
    assert params["SPARKTUNE_MINE"] == f"<{value}>"
    assert json.loads(params["SPARKTUNE_PARAMS"]) == {"x": value}
    assert Path(cwd).parent.parent == scratch
    assert list(scratch.iterdir()) == []


def test_outputs_are_below_the_folder_that_is_kept(tmp_path) -> None:
    source = """
        import os, sys
        folder, file = sys.argv[1:]
        assert os.listdir(folder) == []
        assert (folder, file) == (os.path.abspath("outputs/model"), os.path.abspath("outputs/table"))
        open(file, "w").close()
        print("score=1")
    """
    text = "python train.py ${{outputs.model}} ${{outputs.table}}"
    assert command(text, source, tmp_path, outputs={"model": True, "table": False})({})["score"] == 1.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e-5, "1e-05"),
        (3, "3"),
        (True, "True"),
        (None, "None"),
        ([1, "ü"], '[1, "ü"]'),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_values_that_are_no_text(value, text) -> None:
    assert as_text(value) == text


def test_the_python_of_the_workers_comes_first_and_the_folder_is_copied(tmp_path, scratch) -> None:
    source = """
        import sys, helper
        open("new", "w").write("x")
        print("score=2")
        assert sys.executable == sys.argv[1]
    """
    code_folder(tmp_path / "code", "", "helper.py")
    (tmp_path / "code" / "run.sh").write_text('#!/bin/sh\nexec python train.py "$1"\n')
    (tmp_path / "code" / "run.sh").chmod(0o755)
    run = command(["./run.sh", sys.executable], source, tmp_path)
    assert run({})["score"] == 2.0
    assert not (tmp_path / "code" / "new").exists()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("score=1", (1.0, None)),
        ("  score = -1.5e-3 \r", (-0.0015, None)),
        ("score=.5 step=7", (0.5, 7)),
        ("score=1, step=3", (1.0, 3)),
        ("score=nan", "nan"),
        ("score=inf", (float("inf"), None)),
        ("my_score=1", None),
        ("score=1 loss=2", None),
        ("score=", None),
        ("score=abc", None),
        ("the score=1", None),
        ("score", None),
    ],
)
def test_lines_with_a_metric(line, found) -> None:
    told = MetricLines("score").find(line.rstrip("\r"))
    assert told == found or (found == "nan" and told is not None and told[0] != told[0])


@contextlib.contextmanager
def reported(stop_at: float | None = None):
    seen: list[tuple[int, float]] = []

    class Reporter:
        def report(self, step: int, value: float) -> bool:
            seen.append((step, value))
            return value == stop_at

    reporting.begin(Reporter())
    try:
        yield seen
    finally:
        reporting.begin(None)


def test_printed_metrics_are_reported_as_they_come_and_the_last_is_the_result(tmp_path) -> None:
    """The program goes on only when what it printed has been heard."""
    source = """
        import os, sys
        print("begin"); print("score=3 step=5"); os.read(os.open(sys.argv[1], os.O_RDONLY), 1)
        print("\\u2603"); sys.stdout.write("score=4")
    """
    os.mkfifo(tmp_path / "go")
    with reported() as seen:
        heard = threading.Event()
        original = reporting._of_process.reporter

        class Hearing:
            def report(self, step: int, value: float) -> bool:
                heard.set()
                return original.report(step, value)

        reporting.begin(Hearing())

        def go() -> None:
            assert heard.wait(60)
            (tmp_path / "go").write_text("x")

        thread = threading.Thread(target=go)
        thread.start()
        assert command(f"python train.py {tmp_path / 'go'}", source, tmp_path)({})["score"] == 4.0
        thread.join()
    assert seen == [(5, 3.0), (6, 4.0)]


FAMILY = """
import os, signal, subprocess, sys, time
ignoring = "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]"
forever = [sys.executable, "-c", f"import signal, time; {ignoring}; time.sleep(3600)"]
child = subprocess.Popen(forever)
own_session = subprocess.Popen(forever, start_new_session=True)
quiet = "start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
disown = f"import subprocess; print(subprocess.Popen({forever!r}, {quiet}).pid)"
orphan = int(subprocess.run([sys.executable, "-c", disown], stdout=subprocess.PIPE).stdout)
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{os.getpid()} {child.pid} {own_session.pid} {orphan}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
"""
"""A program with a child, one in a session of its own, and one that it has disowned."""


LAST_WORDS = """
def save(*_):
    print("asked to end")
    print("asked, too", file=sys.stderr)
    time.sleep(1)
    os.makedirs("outputs", exist_ok=True)
    with open("outputs/saved", "w") as file:
        file.write("the model")
    print("the last word")
    sys.exit()
signal.signal(signal.SIGTERM, save)
print("ready")
time.sleep(3600)
"""
"""What a program says that is asked to end."""


def family(told: Path) -> list[int]:
    return [int(pid) for pid in told.read_text().split()]


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("print('score=1')", 1.0),
        ("sys.exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), 9)", "ended by SIGKILL .*memory"),
    ],
)
def test_nothing_stays_when_it_has_ended(end, outcome, tmp_path, scratch) -> None:
    run = command(f"python train.py {tmp_path / 'told'}", FAMILY + end, tmp_path)
    if isinstance(outcome, float):
        assert run({})["score"] == outcome
    else:
        with pytest.raises(CommandFailed, match=outcome):
            run({})
    assert [pid for pid in family(tmp_path / "told") if not is_over(pid)] == []
    assert list(scratch.iterdir()) == []


def test_nothing_stays_when_the_study_ends_the_trial(tmp_path, scratch) -> None:
    source = FAMILY + "print('score=1'); print('score=2'); time.sleep(3600)"
    with reported(stop_at=2.0) as seen, pytest.raises(reporting.TrialTerminated):
        command(f"python train.py {tmp_path / 'told'}", source, tmp_path)({})
    assert [value for _, value in seen] == [1.0, 2.0]
    assert [pid for pid in family(tmp_path / "told") if not is_over(pid)] == []
    assert list(scratch.iterdir()) == []


SAVES = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)  # saving takes a while; a shell around this program ends at once
    open(sys.argv[1], "w").write("saved")
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
print("score=1", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("shell", [False, True])
def test_a_command_can_save_what_it_has(shell, tmp_path, scratch) -> None:
    saved = tmp_path / "saved"
    text = ["/bin/sh", "-c", f"python train.py '{saved}'; true"] if shell else f"python train.py {saved}"
    began = time.monotonic()
    with reported(stop_at=1.0), pytest.raises(reporting.TrialTerminated):
        command(text, SAVES, tmp_path)({})
    assert saved.read_text() == "saved"
    assert time.monotonic() - began < 30
    assert list(scratch.iterdir()) == []


STUBBORN = (
    FAMILY
    + """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("score=1", flush=True)
time.sleep(3600)
"""
)


def test_one_that_does_not_end_is_killed_after_a_while(tmp_path, scratch, monkeypatch) -> None:
    monkeypatch.setattr("sparktune.sweeps.worker.guarded.GRACE_S", 0.3)
    with reported(stop_at=1.0), pytest.raises(reporting.TrialTerminated):
        command(f"python train.py {tmp_path / 'told'}", STUBBORN, tmp_path)({})
    assert [pid for pid in family(tmp_path / "told") if not is_over(pid)] == []
    assert list(scratch.iterdir()) == []


WORKER = """
import sys, tempfile, threading
from pathlib import Path
from sparktune.sweeps.code import packed
from sparktune.sweeps.references import arguments
from sparktune.sweeps.worker.command import Command
from sparktune.worker.processes import end_with_descendants
tempfile.tempdir = sys.argv[3]
def ends():
    sys.stdin.read(1)
    end_with_descendants()
threading.Thread(target=ends, daemon=True).start()
Command(arguments(["python", "train.py", sys.argv[2]]), "score", code=packed(Path(sys.argv[1])))({})
"""


@pytest.mark.parametrize("how", ["killed", "told"])
def test_nothing_stays_when_the_worker_ends(how, tmp_path, scratch, subprocess_env) -> None:
    """Killed with -9, or told by the driver to end."""
    code = code_folder(tmp_path / "code", FAMILY + "print('ready', flush=True); time.sleep(3600)")
    told = tmp_path / "told"
    os.mkfifo(tmp_path / "ready")
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, code, told, scratch], env=subprocess_env, stdin=subprocess.PIPE
    ) as worker:
        try:
            assert wait_for(told)
            pids = family(told)
            guardians = psutil.Process(worker.pid).children()
            if how == "killed":
                worker.kill()
            else:
                assert worker.stdin is not None
                worker.stdin.write(b"x")
                worker.stdin.flush()
            assert worker.wait(60) == -signal.SIGKILL
            if how == "told":  # the worker has waited for its end
                assert [pid for pid in pids if not is_over(pid)] == []
            _, alive = psutil.wait_procs(guardians, timeout=60)
        finally:
            worker.kill()
    assert alive == []
    assert [pid for pid in pids if not is_over(pid)] == []
    assert list(scratch.iterdir()) == []


def wait_for(path: Path) -> bool:
    """Wait until a file is there."""
    done = threading.Event()
    for _ in range(6000):
        if path.exists():
            return True
        done.wait(0.01)
    return False


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("no-such-program", "", "the command 'no-such-program' could not be started: .*No such file"),
        (
            "python train.py",
            "raise KeyError('what')",
            "exit code 1; its stderr ends with:\n(.*\n)*KeyError: 'what'",
        ),
        (
            "python train.py",
            "print('told'); import sys; sys.exit(2)",
            "exit code 2; its stdout ends with:\ntold",
        ),
        ("python train.py", "print('scores=1')", "reported no metric 'score': log it with"),
        ("python train.py", "import os; os.abort()", "ended by SIGABRT"),
    ],
)
def test_failures_tell_why(text, source, message, tmp_path, scratch) -> None:
    with pytest.raises(CommandFailed, match=message):
        command(text, source, tmp_path)({})
    assert list(scratch.iterdir()) == []


def test_much_output_and_long_lines_do_not_block(tmp_path) -> None:
    source = """
        import sys
        for stream in (sys.stdout, sys.stderr):
            stream.write("x" * 3_000_000)
            stream.write("\\n" + "line\\n" * 100_000)
        print("score=1")
    """
    assert command("python train.py", source, tmp_path)({})["score"] == 1.0


def test_signals_are_as_in_a_terminal(tmp_path) -> None:
    """Spark's workers ignore some, which a program would inherit."""
    source = (
        "import signal; print(f'score={sum(signal.getsignal(n) is not signal.SIG_DFL for n in (1, 15, 17))}')"
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert command("python train.py", source, tmp_path)({})["score"] == 0.0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_tail_of_a_file(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"\xff" + b"".join(b"line %d\n" % n for n in range(1000)))
    assert tail(tmp_path / "x").splitlines()[-1] == "line 999"
    assert tail(tmp_path / "none") == ""


def test_workers_need_python_alone(run) -> None:
    imports = "import sparktune.sweeps.worker.command, sparktune.sweeps.worker.function, sys; "
    heavy = "{'pydantic', 'yaml', 'hyperopt', 'numpy', 'mlflow'}"
    check = f"print({{n.partition('.')[0] for n in sys.modules}} & {heavy})"
    done = run([sys.executable, "-c", imports + check])
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr
