#!/usr/bin/env python3
"""Plays the guest's agent, to try an application's assistance without a migration or a virtual machine.

    python3 fake-agent.py /tmp/assist.sock            in one terminal
    GODWIT_ASSIST=/tmp/assist.sock ./my-application   in another

Then type, or pipe in (--script 'begin; prepare 500; zero; resume' does it once an application has declared something):

    list                   who is connected, with which areas
    begin | resume | abort tell everybody
    prepare MS             tell everybody, and wait that long for `ready`
    zero [PERCENT]         freeze those that are ready, zero their areas (or this share of the pages, at random), let them run
    poison                 the same with 0xa5: finds what is read although it was given up. A real agent only zeroes
    die                    close every connection and the socket, and come back after a second
    migrate [MS]           begin, prepare, zero, resume
    wait SECONDS | quit

It checks what the real agent checks (lines, whose memory, private and anonymous), says loudly when an application breaks the
protocol, and keeps a log. Python 3.9 or later, standard library only; the same user as the application, or root.
"""

import argparse
import os
import random
import re
import selectors
import signal
import socket
import struct
import sys
import time

PAGE = 4096
AREA = re.compile(r"(area|drop) (0x[0-9a-fA-F]+|\d+) (0x[0-9a-fA-F]+|\d+)$")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def private_anonymous(pid, begin, end):
    """Is all of it private, anonymous and writable?"""
    at = begin
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            fields = line.split()
            low, high = (int(part, 16) for part in fields[0].split("-"))
            name = fields[5] if len(fields) > 5 else ""
            fits = fields[1].startswith("rw") and fields[1][3] == "p" and fields[4] == "0"
            fits = fits and (name in ("", "[heap]") or name.startswith("[anon"))
            if fits and low <= at < high:
                at = high
                if at >= end:
                    return True
    return False


class Application:
    def __init__(self, connection):
        self.socket = connection
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.pid = struct.unpack("3i", credentials)[0]
        self.name = "?"
        self.areas = []
        self.state = "idle"  # idle, begun, preparing, ready
        self.text = b""

    def __str__(self):
        return f"{self.name} ({self.pid})"

    def tell(self, line):
        say(f"{self} <- {line}")
        try:
            self.socket.send(line.encode() + b"\n")
        except OSError:
            pass  # seen when reading

    def wrong(self, text):
        say(f"{self} !! {text}")
        return f"error {text}"

    def line(self, line):
        """The answer."""
        match = AREA.match(line)
        if line.startswith("name "):
            self.name = line[5:]
        elif line == "ready":
            if self.state != "preparing":
                return self.wrong("not asked to prepare")
            self.state = "ready"
        elif line == "drop":
            self.areas = []
        elif match:
            begin = int(match[2], 0)
            return self.range(match[1], begin, begin + int(match[3], 0))
        else:
            return self.wrong("no such line; there are: name, area, drop, ready")
        return "ok"

    def range(self, word, begin, end):
        if word == "area":
            if self.state in ("preparing", "ready"):
                say(f"{self} !! declares an area in mid-prepare: it could be zeroed at once")
            begin, end = -(-begin // PAGE) * PAGE, end // PAGE * PAGE
            if begin >= end:
                return self.wrong("no whole page in it")
            if not private_anonymous(self.pid, begin, end):
                return self.wrong(f"not private anonymous writable memory of process {self.pid}")
            self.areas.append((begin, end))
            return "ok"
        if self.state == "ready":
            say(f"{self} !! drops after ready: too late for this migration")
        begin, end = begin // PAGE * PAGE, -(-end // PAGE) * PAGE
        pieces = [((low, min(high, begin)), (max(low, end), high)) for low, high in self.areas]
        self.areas = [piece for pair in pieces for piece in pair if piece[0] < piece[1]]
        return "ok"

    def overwrite(self, byte, share):
        """Frozen, as a real agent does it. Gives the pages written."""
        os.kill(self.pid, signal.SIGSTOP)
        count = 0
        try:
            while open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()[0] != "T":
                time.sleep(0.001)
            with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
                for low, high in self.areas:
                    for address in range(low, high, PAGE):
                        if random.random() < share:
                            memory.seek(address)
                            memory.write(bytes([byte]) * PAGE)
                            count += 1
        finally:
            os.kill(self.pid, signal.SIGCONT)
        return count


class Agent:
    def __init__(self, path):
        self.path = path
        self.selector = selectors.DefaultSelector()
        self.applications = []
        self.listener = None
        self.listen()

    def listen(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def accept(self):
        application = Application(self.listener.accept()[0])
        self.applications.append(application)
        self.selector.register(application.socket, selectors.EVENT_READ, lambda: self.read(application))
        say(f"process {application.pid} connects")

    def read(self, application):
        try:
            data = application.socket.recv(4096)
        except OSError:
            data = b""
        if not data:
            say(f"{application} has gone")
            self.selector.unregister(application.socket)
            application.socket.close()
            self.applications.remove(application)
            return
        *lines, application.text = (application.text + data).split(b"\n")
        for raw in lines:
            line = raw.decode("ascii", "replace")
            say(f"{application} -> {line}")
            answer = application.line(line) if len(raw) <= 256 else application.wrong("a line is too long")
            try:
                application.socket.send(answer.encode() + b"\n")
            except OSError:
                return

    def run_until(self, holds, seconds):
        end = time.monotonic() + seconds
        while not holds() and time.monotonic() < end:
            for key, _ in self.selector.select(min(0.05, max(0.0, end - time.monotonic()))):
                key.data()
        return holds()

    def close(self):
        for application in self.applications:
            self.selector.unregister(application.socket)
            application.socket.close()
        self.applications = []
        self.selector.unregister(self.listener)
        self.listener.close()
        os.unlink(self.path)

    # Commands.

    def announce(self, word, state):
        for application in self.applications:
            application.state = state
            application.tell(word)

    def prepare(self, ms):
        start = time.monotonic()
        self.announce(f"prepare {ms}", "preparing")
        told = list(self.applications)
        self.run_until(lambda: all(one.state != "preparing" for one in told if one in self.applications), ms / 1000)
        for one in told:
            state = "gone" if one not in self.applications else one.state if one.state == "ready" else "late"
            say(f"{one} is {state} after {(time.monotonic() - start) * 1000:.0f} ms")

    def overwrite(self, byte, share):
        for one in self.applications:
            if one.state == "ready":
                say(f"{one}: {one.overwrite(byte, share)} pages of 4 KiB written with {byte:#x} while frozen")
            else:
                say(f"{one} is not ready: left alone")

    def command(self, text):
        """False: the end."""
        word, *values = text.split()
        if word == "list":
            for one in self.applications:
                areas = ", ".join(f"{low:#x} + {(high - low) // 1024} KiB" for low, high in one.areas)
                say(f"{one}, {one.state}: {areas or 'no areas'}")
        elif word in ("begin", "resume", "abort"):
            self.announce(word, "begun" if word == "begin" else "idle")
        elif word == "prepare":
            self.prepare(int(values[0]) if values else 500)
        elif word in ("zero", "poison"):
            self.overwrite(0 if word == "zero" else 0xA5, int(values[0]) / 100 if values else 1)
        elif word == "migrate":
            for step in ("begin", f"prepare {values[0] if values else 500}", "zero", "resume"):
                self.command(step)
        elif word == "die":
            self.close()
            time.sleep(1)
            self.listen()
        elif word == "wait":
            self.run_until(lambda: False, float(values[0]))
        elif word != "quit":
            say(f"no such command: {word}")
        return word != "quit"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket", help="path at which to listen")
    parser.add_argument("--script", help="commands, separated by semicolons, instead of standard input")
    options = parser.parse_args()
    agent = Agent(options.socket)
    say(f"GODWIT_ASSIST={options.socket}")
    try:
        if options.script is not None:
            agent.run_until(lambda: any(one.areas for one in agent.applications), 60)
            for text in options.script.split(";"):
                if text.strip() and not agent.command(text.strip()):
                    break
            agent.run_until(lambda: False, 0.2)
            return
        commands = []
        agent.selector.register(sys.stdin, selectors.EVENT_READ, lambda: commands.append(sys.stdin.readline()))
        while True:
            agent.run_until(lambda: commands != [], 3600)
            text = commands.pop(0) if commands else "list"
            if text == "" or (text.strip() and not agent.command(text.strip())):
                return
    except KeyboardInterrupt:
        pass
    finally:
        agent.close()


main()
