"""
How the process handles memory.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

from realize.memory import unwritten


def run(script: str) -> str:
    """
    What a script prints in a process of its own.
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def test_threads_share_a_heap():
    """
    What one thread has freed serves the next one: no memory of its own appears.
    """
    heaps = run(
        """
        import threading
        from realize.memory import keep_freed_memory
        keep_freed_memory()
        kept, go, ready = [], threading.Event(), threading.Barrier(5)
        def work():
            kept.append([bytearray(5000) for _ in range(100)])
            ready.wait()
            go.wait()
        for _ in range(4):
            threading.Thread(target=work).start()
        ready.wait()
        # An arena of a thread is a mapping of 64 MiB, most of it without permissions.
        sizes = []
        for line in open("/proc/self/maps"):
            begin, end = (int(at, 16) for at in line.split()[0].split("-"))
            if line.split()[1] == "---p":
                sizes.append(end - begin)
        go.set()
        print(sum(size > 48 * 2**20 for size in sizes))
        """
    )
    assert int(heaps) == 0


def test_garbage_is_still_found():
    """
    Rarely, and what there was before is not looked at.
    """
    found = run(
        """
        import gc, weakref
        from realize.memory import OBJECTS, collect_rarely
        collect_rarely()
        class Ring:
            pass
        ring = Ring()
        ring.ring = ring
        seen = weakref.ref(ring)
        del ring
        kept = [[] for _ in range(OBJECTS + 100)]
        print(gc.get_freeze_count() > 1000, seen() is None)
        """
    )
    assert found == "True True\n"


def test_a_command_does_not_look_for_garbage():
    """
    Not while modules are imported, which takes most of a short run, and not at its end.
    """
    looks = run(
        """
        import gc, os, sys
        from realize.cli.main import main
        looks = []
        gc.callbacks.append(lambda phase, info: looks.append(info["generation"]))
        sys.argv = ["realize", "move", "--help"]
        try:
            main()
        except SystemExit:
            pass
        gc.collect(0)
        print(len(looks), max(looks), gc.isenabled(), gc.get_freeze_count() > 10_000)
        """
    ).splitlines()[-1]
    count, oldest, enabled, frozen = looks.split()
    assert int(count) <= 8
    assert int(oldest) <= 1
    assert (enabled, frozen) == ("False", "True")


def test_unwritten_memory_takes_nothing():
    """
    Until it is written to: who announces much and sends nothing costs nothing.
    """
    before, after, length = run(
        """
        from realize.memory import keep_freed_memory, unwritten
        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * 4096
        keep_freed_memory()
        unwritten(1)
        before = resident()
        held = [unwritten(4 << 20) for _ in range(20)]
        print(before, resident(), len(held[0]))
        """
    ).split()
    assert int(length) == 4 << 20
    assert int(after) - int(before) < 8 << 20


def test_unwritten_memory_can_be_written():
    """
    It is ordinary memory otherwise.
    """
    memory = unwritten(5)
    memory[:] = b"a\0b\0c"
    assert memory == b"a\0b\0c"
    assert unwritten(0) == b""
