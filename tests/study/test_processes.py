"""Children end with the process that started them, and so does what they have started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from neurobridge.study.processes import ONE_THREAD, Children, call_in_processes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")

# Writes its number and that of a process of its own, then sleeps; a polite one cleans up when it is told to end.
SLEEPER = """
import os, signal, subprocess, sys, time
folder, polite = sys.argv[1], sys.argv[2] == "polite"
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stderr=subprocess.DEVNULL)
def end(number, frame):
    open(os.path.join(folder, f"{os.getpid()}.ended"), "w").close()
    os._exit(128 + number)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end if polite else signal.SIG_IGN)
path = os.path.join(folder, f"{os.getpid()}.pids")
with open(path + "~", "w") as file:
    file.write(f"{os.getpid()} {inner.pid}")
os.rename(path + "~", path)
time.sleep(60)
"""


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids(folder: Path) -> list[int]:
    return [int(pid) for path in folder.glob("*.pids") for pid in path.read_text().split()]


def runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("manner", ["polite", "stubborn"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_no_process_is_left_behind(tmp_path, manner, error, monkeypatch):
    monkeypatch.setattr("neurobridge.study.processes.PATIENCE_S", 0.3 if manner == "stubborn" else 10.0)
    results = []
    children = Children()
    command = [sys.executable, "-c", SLEEPER, str(tmp_path), manner]
    threads = [threading.Thread(target=lambda: results.append(children.run(command))) for _ in range(2)]

    def start_and_fail():
        with children:
            for thread in threads:
                thread.start()
            wait_for(lambda: len(pids(tmp_path)) == 4)
            raise error

    with pytest.raises(error):
        start_and_fail()
    for thread in threads:
        thread.join(20)
    number = signal.SIGINT if error is KeyboardInterrupt else signal.SIGTERM
    expected = 128 + number if manner == "polite" else -signal.SIGKILL
    assert [result.returncode for result in results] == [expected] * 2
    assert len(list(tmp_path.glob("*.ended"))) == (2 if manner == "polite" else 0)
    wait_for(lambda: not any(map(runs, pids(tmp_path))))
    assert children.run(command) is None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("arguments", [["--all", "--jobs", "2"], ["first"]], ids=["all", "one"])
def test_run_ends_its_experiments(tmp_path, number, status, arguments):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("first", "second", "third"):
        (scripts / f"{name}.py").write_text(
            SLEEPER.replace("sys.argv[1]", repr(str(tmp_path))).replace("sys.argv[2]", '"polite"')
        )
    program = (
        "import pathlib, sys; from neurobridge.cli import main, run; "
        f"run.PLACES = (run.Place(pathlib.Path({str(tmp_path)!r}), 'scripts'),); main()"
    )
    command = [sys.executable, "-c", program, "run", *arguments, "--out", str(tmp_path / "results"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    n_running = 2 if "--all" in arguments else 1
    wait_for(lambda: len(pids(tmp_path)) == 2 * n_running)
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert output == ""
    assert errors.startswith("neurobridge: ")
    assert "Traceback" not in errors
    wait_for(lambda: not any(map(runs, pids(tmp_path))))
    assert len(pids(tmp_path)) == 2 * n_running


def test_output_and_status_come_back():
    with Children() as children:
        result = children.run(
            [sys.executable, "-c", "import json, os; print(json.dumps(os.environ['A'])); raise SystemExit(4)"],
            env={**os.environ, "A": "b"},
            stdout=subprocess.PIPE,
        )
    assert (json.loads(result.stdout), result.returncode) == ("b", 4)


CALLER = """
import time
from neurobridge.study.processes import call_in_processes
if __name__ == "__main__":
    for _ in call_in_processes(time.sleep, [(0,), (60,), (60,)], 2):
        print("started", flush=True)
"""


def children_of(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@pytest.mark.parametrize("n_processes", [1, 2])
def test_calls_keep_their_places_and_raise_their_errors(n_processes):
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    assert dict(call_in_processes(pow, [(2, 3), (3, 2), (5, 1)], n_processes)) == {0: 8, 1: 9, 2: 5}
    with pytest.raises(ZeroDivisionError):
        list(call_in_processes(divmod, [(1, 0), (1, 1)], n_processes))
    assert {name: os.environ.get(name) for name in ONE_THREAD} == before


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are listed in /proc")
def test_processes_of_a_killed_caller_end(tmp_path):
    script = tmp_path / "caller.py"
    script.write_text(CALLER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout.readline() == "started\n"
        started = children_of(caller.pid)
        assert len(started) >= 2
        caller.kill()
        caller.stdout.close()
        wait_for(lambda: not any(map(runs, started)))
