#!/usr/bin/env python3
"""Makes an unmodified Redis or memcached smaller for a live migration, through its own commands.

    redis-helper.py --server redis --connect 127.0.0.1:6379 --shrink-to 256mb
    redis-helper.py --server redis --connect /run/redis/redis.sock --flush
    redis-helper.py --server memcached --connect 127.0.0.1:11211 --flush

It declares no memory: a program can only declare its own. It registers with the agent under a name, and shrinks the server

  --when begin     (default) before the first round, so that less has to be sent at all; `prepare` then waits for it
  --when prepare   shortly before the switch-over. What the server held has been sent by then: this saves nothing but what
                   would have changed again in the last round. Only for servers that must not miss for long

and gives back what it took (maxmemory, memcached's limit) at `resume` or `abort`, when it ends, and when it starts and finds that an
earlier one did not (--state; Redis only).

What is saved. A page that the server gives back to the guest's kernel keeps its content, and travels like any other. It is saved
only if it is zero: so after shrinking the helper allocates nearly all free memory at once, which the kernel zeroes, and gives it back.
The price: guest memory that was never touched becomes memory of the host. --no-zero leaves that out: for kernels with init_on_free=1,
or hosts that use free page hinting. What it cannot reach is memory that the server's allocator keeps, and huge pages of which a
part is in use (Redis switches them off for itself). Figures: docs/ASSIST.md.

What is lost. With --shrink-to, what the server evicts, by its own policy; a Redis whose policy is noeviction is never made
to evict. With --flush, everything it holds. Neither is for a store whose content exists nowhere else.
"""

import argparse
import json
import mmap
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../python"))
import godwit_assist  # noqa: E402

MIB = 1 << 20
UNITS = {"kb": 1 << 10, "mb": MIB, "gb": 1 << 30}


class Deadline:
    def __init__(self, seconds):
        self._end = time.monotonic() + seconds

    def left(self):
        return max(0.0, self._end - time.monotonic())

    def cancel(self):
        self._end = 0.0


class Connection:
    """A line-oriented connection to the server. Made anew for each migration: servers restart, and close idle ones."""

    def __init__(self, where, deadline):
        family = socket.AF_UNIX if where.startswith("/") else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(max(0.05, deadline.left()))
        host, _, port = where.rpartition(":")
        self._socket.connect(where if family == socket.AF_UNIX else (host, int(port)))
        self._file = self._socket.makefile("rwb")

    def send(self, data):
        self._file.write(data)
        self._file.flush()

    def line(self):
        line = self._file.readline(1 << 16)
        if not line.endswith(b"\n"):
            raise OSError("the server closed the connection")
        return line.rstrip(b"\r\n").decode("utf-8", "replace")

    def exactly(self, count):
        return self._file.read(count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()


class Redis:
    def __init__(self, options):
        self._options = options
        self._before = None  # maxmemory to put back

    def _command(self, connection, *words):
        parts = [f"*{len(words)}\r\n".encode()]
        for word in words:
            parts.append(f"${len(word.encode())}\r\n{word}\r\n".encode())
        connection.send(b"".join(parts))
        return self._reply(connection)

    def _reply(self, connection):
        line = connection.line()
        kind, rest = line[:1], line[1:]
        if kind == "-":
            raise OSError(f"redis: {rest}")
        if kind == "$":
            return None if rest == "-1" else connection.exactly(int(rest) + 2)[:-2].decode("utf-8", "replace")
        if kind == "*":
            return [self._reply(connection) for _ in range(int(rest))]
        return rest

    def _connect(self, deadline):
        connection = Connection(self._options.connect, deadline)
        if self._options.password:
            self._command(connection, "AUTH", self._options.password)
        return connection

    def _memory(self, connection, field):
        info = self._command(connection, "INFO", "memory")
        return int(next(line for line in info.splitlines() if line.startswith(field + ":")).split(":")[1])

    def shrink(self, deadline):
        """Bytes that the server has given back to the kernel."""
        with self._connect(deadline) as connection:
            resident = self._memory(connection, "used_memory_rss")
            if self._options.flush:
                self._command(connection, "FLUSHALL", "SYNC")
            if self._options.shrink_to:
                self._evict(connection, deadline)
            self._command(connection, "MEMORY", "PURGE")
            # Redis looks at its resident size ten times a second.
            time.sleep(min(0.25, deadline.left()))
            return max(0, resident - self._memory(connection, "used_memory_rss"))

    def _evict(self, connection, deadline):
        policy = self._command(connection, "CONFIG", "GET", "maxmemory-policy")[1]
        if policy == "noeviction":
            print("redis-helper: maxmemory-policy is noeviction: nothing is evicted", file=sys.stderr)
            return
        limit = self._options.shrink_to
        if self._before is None:
            self._before = self._command(connection, "CONFIG", "GET", "maxmemory")[1]
            self.remember()
        if 0 < int(self._before) <= limit:
            return
        self._command(connection, "CONFIG", "SET", "maxmemory", str(limit))
        while self._memory(connection, "used_memory") > limit and deadline.left() > 0:
            time.sleep(0.02)

    def give_back(self, deadline):
        self.recall()
        if self._before is None:
            return
        with self._connect(deadline) as connection:
            self._command(connection, "CONFIG", "SET", "maxmemory", self._before)
        self._before = None
        if os.path.exists(self._options.state):
            os.unlink(self._options.state)

    def remember(self):
        """For the helper's successor, if it is killed now."""
        with open(self._options.state + ".new", "w") as file:
            json.dump({"connect": self._options.connect, "maxmemory": self._before}, file)
        os.replace(self._options.state + ".new", self._options.state)

    def recall(self):
        if self._before is not None or not os.path.exists(self._options.state):
            return
        with open(self._options.state) as file:
            state = json.load(file)
        if state["connect"] == self._options.connect:
            self._before = state["maxmemory"]


class Memcached:
    """Lowering memcached's limit frees nothing by itself. Moving slab pages one by one to the global pool does: what is there
    beyond the limit goes back to the kernel. Items in a moved page are evicted; after a flush it holds none."""

    def __init__(self, options):
        self._options = options
        self._before = None  # limit to put back, MiB

    def _stats(self, connection, what=""):
        connection.send(f"stats{what}\r\n".encode())
        found = {}
        while True:
            words = connection.line().split(" ", 2)
            if words[0] != "STAT":
                return found
            found[words[1]] = words[2]

    def _ask(self, connection, command):
        connection.send(command.encode() + b"\r\n")
        return connection.line()

    def _expect(self, connection, command):
        answer = self._ask(connection, command)
        if answer != "OK":
            raise OSError(f"memcached: {command}: {answer}")

    def shrink(self, deadline):
        with Connection(self._options.connect, deadline) as connection:
            stats = self._stats(connection)
            resident = resident_bytes(int(stats["pid"]))
            limit = self._options.shrink_to or (8 * MIB if self._options.flush else int(stats["limit_maxbytes"]))
            if self._options.flush:
                self._expect(connection, "flush_all")
            if self._before is None:
                self._before = int(stats["limit_maxbytes"]) // MIB
            self._expect(connection, f"cache_memlimit {max(8, limit // MIB)}")
            while deadline.left() > 0 and self._move_page(connection, limit):
                pass
            return max(0, resident - resident_bytes(int(stats["pid"])))

    def _move_page(self, connection, limit):
        """One page of the largest class; each class keeps one. False when small enough, or when nothing is left to move."""
        slabs = self._stats(connection, " slabs")
        pages = {name[:-12]: int(count) for name, count in slabs.items() if name.endswith(":total_pages")}
        largest = max(pages, key=pages.get, default=None)
        if largest is None or pages[largest] < 2 or int(slabs["total_malloced"]) <= limit:
            return False
        answer = self._ask(connection, f"slabs reassign {largest} 0")
        if not answer.startswith(("OK", "BUSY")):
            raise OSError(f"memcached: slabs reassign: {answer}")
        time.sleep(0.001)  # the mover works in the background
        return True

    def give_back(self, deadline):
        if self._before is None:
            return
        with Connection(self._options.connect, deadline) as connection:
            self._expect(connection, f"cache_memlimit {self._before}")
        self._before = None


def resident_bytes(pid):
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0  # in another container


def free_bytes():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemFree:"))


def zero_free_memory(deadline):
    """Has the kernel zero nearly all of its free memory, by allocating it at once and giving it back.

    Not just as much as was freed: which free pages an allocation gets is the kernel's choice, and it was found to take others.
    A twentieth and at least 32 MiB stay free, so that nobody else has to give up memory for this.
    """
    populate = 0x8000
    free = free_bytes()
    left = free - max(free // 20, 32 * MIB)
    held = []
    while left >= 16 * MIB and deadline.left() > 0:
        held.append(mmap.mmap(-1, 16 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | populate))
        left -= 16 * MIB
    for part in held:
        part.close()


class Helper(godwit_assist.Handler):
    """Shrinking runs in a thread of its own: `begin` returns at once, and the end of a migration ends it."""

    def __init__(self, options):
        self._options = options
        self._server = Redis(options) if options.server == "redis" else Memcached(options)
        self._work = None
        self._deadline = Deadline(0)
        self._lock = threading.Lock()
        self._timer = None

    def begin(self):
        if self._options.when == "begin":
            self._start(self._options.begin_seconds)

    def prepare(self, deadline_ms):
        # A tenth is left for the answer's way.
        seconds = deadline_ms * 0.9 / 1000
        if self._options.when == "prepare":
            self._start(seconds)
        if self._work is not None:
            self._work.join(seconds)

    def resume(self):
        self._give_back()

    def abort(self):
        self._give_back()

    def trouble(self, text):
        print(f"redis-helper: {text}", file=sys.stderr, flush=True)

    def _start(self, seconds):
        self._deadline = Deadline(seconds)
        self._work = threading.Thread(target=self._shrink, args=(self._deadline,), daemon=True)
        self._work.start()
        if self._timer is not None:
            self._timer.cancel()
        # The host may forget to tell the end.
        self._timer = threading.Timer(self._options.longest_seconds, self._give_back)
        self._timer.daemon = True
        self._timer.start()

    def _shrink(self, deadline):
        try:
            with self._lock:
                start = time.monotonic()
                freed = self._server.shrink(deadline)
                shrunk = time.monotonic()
                if not self._options.no_zero:
                    zero_free_memory(deadline)
            print(
                f"redis-helper: freed {freed // MIB} MiB in {shrunk - start:.2f} s,"
                f" zeroed in {time.monotonic() - shrunk:.2f} s",
                flush=True,
            )
        except (OSError, ValueError, StopIteration) as error:
            self.trouble(f"{self._options.server} stays as it is: {error}")

    def _give_back(self):
        if self._timer is not None:
            self._timer.cancel()
        self._deadline.cancel()
        self.give_back()

    def give_back(self):
        try:
            with self._lock:
                self._server.give_back(Deadline(5))
        except OSError as error:
            self.trouble(f"what was taken could not be given back: {error}")


def size(text):
    unit = text[-2:].lower()
    return int(text[:-2]) * UNITS[unit] if unit in UNITS else int(text)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--server", choices=["redis", "memcached"], default="redis")
    parser.add_argument("--connect", default="127.0.0.1:6379", help="HOST:PORT or path of a socket")
    parser.add_argument("--password", default=os.environ.get("REDIS_PASSWORD"), help="redis; better in $REDIS_PASSWORD")
    parser.add_argument("--shrink-to", type=size, metavar="SIZE", help="evict down to this, e.g. 256mb")
    parser.add_argument("--flush", action="store_true", help="throw everything away: only for caches")
    parser.add_argument("--when", choices=["begin", "prepare"], default="begin")
    parser.add_argument("--begin-seconds", type=float, default=10, help="longest time for shrinking at begin")
    parser.add_argument("--longest-seconds", type=float, default=600, help="give back after this, whatever happens")
    parser.add_argument("--no-zero", action="store_true", help="leave freed memory as it is")
    parser.add_argument("--state", default="/run/godwit/redis-helper.json", help="what to give back, if killed")
    return parser.parse_args(arguments)


def main():
    helper = Helper(parse(sys.argv[1:]))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    helper.give_back()
    with godwit_assist.GodwitAssist("redis-helper", helper):
        ended.wait()
    helper.give_back()


main()
