import asyncio
import os
import signal
import subprocess
import sys

from gradwire_server.lifetime import Lifetime

CHILD = """
import asyncio, sys
from gradwire_server.lifetime import Lifetime

async def main():
    lifetime = Lifetime()
    watch = asyncio.create_task(lifetime.watch_parent(int(sys.argv[1])))
    print("watching", flush=True)
    await lifetime.stop.wait()
    print("orphaned" if lifetime.orphaned else "told", flush=True)

asyncio.run(main())
"""
PARENT = f"""
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
sys.stdin.read()
"""


def test_the_end_of_the_parent_is_noticed_however_it_ends() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "watching\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.readline() == "orphaned\n"


async def test_a_parent_that_is_gone_already_is_noticed() -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    lifetime = Lifetime()
    async with asyncio.timeout(5):
        await lifetime.watch_parent(gone.pid)
    assert lifetime.orphaned


async def test_a_process_that_is_not_the_parent_counts_as_a_parent_that_is_gone() -> None:
    lifetime = Lifetime()
    async with asyncio.timeout(5):
        await lifetime.watch_parent(os.getpid())
    assert lifetime.orphaned


async def test_the_first_signal_asks_to_stop_and_the_second_to_stop_at_once() -> None:
    lifetime = Lifetime()
    lifetime.watch_signals()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await lifetime.stop.wait()
        assert not lifetime.abandon.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await lifetime.abandon.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert not lifetime.orphaned
