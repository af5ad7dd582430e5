#!/usr/bin/env python3
"""The least that a Python program does to assist: results of a slow computation in an arena.

A slot that is zero is one that is not computed yet, so memory that has become zero is slow, never wrong. A lock keeps the
arena still between `prepare` and the end of the migration.
"""

import mmap
import os
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../python"))
import godwit_assist  # noqa: E402

SLOTS = 4 << 20
slot = struct.Struct("<Q")
arena = mmap.mmap(-1, SLOTS * slot.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
in_use = threading.Lock()


def compute(number):
    """Never 0, and the same for the same number at any time."""
    return (number * 6364136223846793005 + 1442695040888963407) % 2**64 | 1


def lookup(number):
    at = number % SLOTS * slot.size
    with in_use:
        (result,) = slot.unpack_from(arena, at)
        if result == 0:
            result = compute(number % SLOTS)
            slot.pack_into(arena, at, result)
        return result


class Arena(godwit_assist.Handler):
    still = False

    def prepare(self, deadline_ms):
        print("prepare within", deadline_ms, "ms", flush=True)
        if not self.still:
            in_use.acquire()  # kept: lookup() waits meanwhile
        self.still = True

    def resume(self):
        """May come without `prepare`, if the migration ends before that."""
        if self.still:
            in_use.release()
        self.still = False
        print("goes on", flush=True)

    abort = resume

    def trouble(self, text):
        print("assistance:", text, file=sys.stderr, flush=True)


with godwit_assist.GodwitAssist("arena-python", Arena()) as assist:
    assist.area(arena)
    number = 0
    while True:
        if lookup(number) != compute(number % SLOTS):
            sys.exit("WRONG")
        number += 7919
        if number % 101 == 0:
            time.sleep(0.001)
