"""A command's process ends when all is done, and not before."""

from __future__ import annotations

import os
import subprocess
import sys

START = "import atexit, sys, threading, time; from llmos.interfaces.ending import Ending; ending = Ending(); "


def ended(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_to_be_done_at_the_end_is_done_and_written_and_threads_are_waited_for() -> None:
    done = ended(
        "atexit.register(print, 'goodbye', end='');"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start();"
        "ending.exit_code = 3"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "thread\ngoodbye", "")


def test_nothing_is_taken_apart() -> None:
    held = "Held = type('Held', (), {'__del__': lambda self: sys.stderr.write('taken apart')}); held = Held(); "
    assert ended(f"{held} ending.exit_code = 0").stderr == ""
    assert ended(held).stderr == "taken apart"


def test_an_error_that_nobody_took_is_told_as_ever() -> None:
    done = ended("1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_what_can_not_be_written_is_said_by_the_interpreter() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-c", START + "print('answer'); ending.exit_code = 0"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 120
    assert "No space left" in done.stderr
