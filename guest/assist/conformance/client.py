"""The Python library under the conformance test. Commands: head of client.c. `client.py asyncio`: handler in a loop."""

import asyncio
import mmap
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../python"))
import godwit_assist  # noqa: E402

buffers = {}
areas = {}
on_prepare = ["ok"]


def say(*words):
    # One write: two threads say things.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Plain(godwit_assist.Handler):
    def begin(self):
        say("begin")

    def prepare(self, deadline_ms):
        say("prepare", deadline_ms)
        word, *numbers = on_prepare
        if word == "fail":
            raise RuntimeError("cannot stop")
        if word == "sleep":
            time.sleep(int(numbers[0]) / 1000)
        if word == "drop":
            i, offset, length = map(int, numbers)
            areas[i].drop(offset, length)

    def resume(self):
        say("resume")

    def abort(self):
        say("abort")

    def trouble(self, text):
        say("trouble", text)


class InLoop(Plain):
    async def prepare(self, deadline_ms):
        await asyncio.sleep(0)
        super().prepare(deadline_ms)


def obey(assist, line):
    word, *rest = line.split()
    if word == "area":
        i, length = map(int, rest)
        buffers[i] = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        buffers[i].write(bytes([i + 1]) * length)
        areas[i] = assist.area(buffers[i])
        say("area", i, hex(areas[i].address), areas[i].length)
    elif word == "drop":
        i, offset, length = map(int, rest)
        areas[i].drop(offset, length)
        say("done")
    elif word == "drop-all":
        assist.drop_all()
        say("done")
    elif word == "zeroes":
        i = int(rest[0])
        say("zeroes", i, bytes(buffers[i]).count(0))
    elif word == "on-prepare":
        on_prepare[:] = rest
        say("done")


def main():
    if sys.argv[1:] == ["asyncio"]:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        assist = godwit_assist.GodwitAssist("conformance", InLoop(), loop=loop)
    else:
        assist = godwit_assist.GodwitAssist("conformance", Plain())
    with assist:
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            obey(assist, line)


main()
