"""Runs at the start of the processes of a server under test; tells what a worker reaches for.

Whatever a worker does while it serves calls that Python audits (files, processes, sockets, code,
modules; https://docs.python.org/3/library/audit_events.html) becomes a line of the file that
TESTS_SAFETY_AUDIT names.
"""

import json
import os
import sys

WORKER = "gradwire_server.workers.process"
WATCHED = (
    "open",
    "exec",
    "compile",
    "import",
    "socket.",
    "subprocess.",
    "os.",
    "shutil.",
    "ctypes.",
    "pickle.",
    "marshal.",
    "code.__new__",
    "glob.",
    "tempfile.",
    "urllib.",
    "ftplib.",
    "http.",
    "pty.",
    "sys._getframe",
    "syslog.",
    "mmap.",
    "fcntl.",
    "signal.",
)
IGNORED = frozenset({"sys._getframe", "os.putenv"})


def _watch(path: str) -> None:
    report = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    reporting = False

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal reporting
        if reporting or not event.startswith(WATCHED) or event in IGNORED:
            return
        frame = sys._getframe().f_back
        stack = []
        serving = False
        while frame is not None:
            code = frame.f_code
            stack.append(f"{code.co_filename}:{code.co_name}")
            serving = serving or (code.co_name == "turn" and "engine" in code.co_filename)
            frame = frame.f_back
        if not serving:
            return
        reporting = True
        try:
            line = json.dumps([event, [repr(arg)[:200] for arg in args], stack[:40]])
            os.write(report, line.encode() + b"\n")
        finally:
            reporting = False

    sys.addaudithook(hook)


if WORKER in sys.orig_argv and "TESTS_SAFETY_AUDIT" in os.environ:
    _watch(os.environ["TESTS_SAFETY_AUDIT"])
