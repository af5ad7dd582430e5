"""Tells godwit which memory of this program need not travel in a live migration.

    import godwit_assist, mmap

    arena = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    class Cache(godwit_assist.Handler):
        def prepare(self, deadline_ms): cache.suspend()     # from now on nobody touches the arena
        def resume(self): cache.clear()                     # at the destination: it may have become zero
        def abort(self): cache.clear()                      # stayed here: same caution

    with godwit_assist.GodwitAssist("my-cache", Cache()) as assist:
        assist.area(arena)
        serve()

Standard library only, Python 3.9 or later, Linux. docs/ASSIST.md explains what the program promises.

Without an agent every call still succeeds and nothing ever happens. The library keeps the list of areas: when the
agent restarts it connects again and declares them again. If the connection is lost in mid-migration the handler hears
`abort`, so that it is never left waiting.

Memory must be private and anonymous: a bytearray, a NumPy array, or mmap with the flags above (mmap.mmap(-1, n) alone is
*shared* memory and refused). An area holds an export of its buffer: Python then refuses to resize or close it until it
is dropped.

After os.fork() the child must not use the object: the connection speaks for its parent.
"""

import asyncio
import collections
import ctypes
import inspect
import os
import selectors
import socket
import threading
import time

__all__ = ["AREAS_MAX", "Area", "GodwitAssist", "Handler"]

AREAS_MAX = 1024
_LINE_BYTES = 256
_OUT_BYTES = 98304
_UNANSWERED_MAX = 4096
_RETRY_S = 0.25
_RETRY_S_MAX = 30.0


class Handler:
    """What a program may do at each event. Override what is needed; methods may be coroutines if a loop is given."""

    def begin(self):
        """A migration begins: nothing has to be done."""

    def prepare(self, deadline_ms):
        """Stop reading and writing the areas, drop what must be kept, and return: that is the answer.

        An exception means that the program cannot stop: then no area is disposable in this migration (they are
        declared again after it). Later than the deadline is no mistake, but then the memory travels.
        """
        raise NotImplementedError("no prepare: nothing can be given up")

    def resume(self):
        """The program runs at the destination: areas may have become zero, wholly or in part."""

    def abort(self):
        """The migration did not happen: same caution."""

    def trouble(self, text):
        """What the agent refused, lost connections, and exceptions of the other methods. For a log."""


class Area:
    """Declared memory. Keeps its buffer alive."""

    def __init__(self, assist, buffer):
        self._assist = assist
        with memoryview(buffer) as view:
            if view.readonly or not view.contiguous:
                raise ValueError("only a writable, contiguous buffer can be declared")
            self.length = view.nbytes
        self._export = (ctypes.c_char * self.length).from_buffer(buffer)
        self.address = ctypes.addressof(self._export)

    def drop(self, offset=0, length=None):
        """Withdraws this part, or all of it. After `prepare` is answered it is too late for this migration."""
        if self._export is None:
            return
        whole = offset == 0 and (length is None or length >= self.length)
        length = self.length - offset if length is None else length
        if not 0 <= offset <= offset + length <= self.length:
            raise ValueError("outside the area")
        self._assist._drop(self.address + offset, length)
        if whole:
            self._forget()

    def _forget(self):
        with self._assist._lock:
            self._assist._buffers.discard(self)
            # Given up already in this migration: were it freed now, its addresses could be another's when it is zeroed.
            if self._assist._phase in ("preparing", "answered"):
                self._assist._held.append(self._export)
            self._export = None


class GodwitAssist:
    """Connection to the agent, served by a daemon thread, which also calls the handler.

    path: default $GODWIT_ASSIST, else /run/godwit/assist.sock; empty switches assistance off.
    loop: an asyncio loop in which the handler's methods run instead (they may then be coroutines).
    """

    def __init__(self, name=None, handler=None, *, path=None, loop=None):
        self._handler = handler if handler is not None else Handler()
        self._loop = loop
        name = "" if name is None else name[:127]
        self._name = "".join(c if " " <= c <= "~" else "?" for c in name)
        if path is None:
            path = os.environ.get("GODWIT_ASSIST", "/run/godwit/assist.sock")
        self._path = path
        # Everything below is guarded by the lock; callbacks run without it.
        self._lock = threading.RLock()
        self._ranges = []  # [address, length, declared on this connection]
        self._buffers = set()
        self._held = []  # exports of areas dropped in mid-prepare
        self._phase = "idle"  # idle, begun, preparing, answered
        self._answer = False  # `ready` is to be sent as soon as all drops are answered
        self._drops = 0  # drop lines without an answer
        self._unanswered = collections.deque()
        self._out = bytearray()
        self._in = bytearray()
        self._socket = None
        self._retry_s = _RETRY_S
        self._retry_at = 0.0
        self._closed = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="godwit-assist", daemon=True)
        self._thread.start()

    def area(self, buffer):
        """Declares a writable buffer disposable; only the whole pages inside count. Gives back its Area.

        Declared between `prepare` and `resume` or `abort`, it counts from the end of that migration on.
        """
        area = Area(self, buffer)
        with self._lock:
            if len(self._ranges) >= AREAS_MAX:
                raise ValueError(f"more than {AREAS_MAX} areas")
            self._buffers.add(area)
            self._ranges.append([area.address, area.length, False])
            self._declare()
        self._wake()
        return area

    def drop_all(self):
        """Withdraws every area."""
        with self._lock:
            self._ranges = []
            for area in list(self._buffers):
                area._forget()
            self._send("drop", "withdraw")
        self._wake()

    @property
    def connected(self):
        return self._socket is not None

    def close(self):
        """Withdraws everything. Waits for the handler's method that is running, unless called from it."""
        with self._lock:
            self._closed = True
        self._wake()
        if threading.current_thread() is not self._thread and self._loop is None:
            self._thread.join()
        self._buffers.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # What the program has declared.

    def _drop(self, address, length):
        end = address + length
        with self._lock:
            kept = []
            for begin, bytes_, declared in self._ranges:
                if begin < min(address, begin + bytes_):
                    kept.append([begin, min(address, begin + bytes_) - begin, declared])
                if max(end, begin) < begin + bytes_:
                    kept.append([max(end, begin), begin + bytes_ - max(end, begin), declared])
            self._ranges = kept[:AREAS_MAX]
            self._send(f"drop {address:#x} {length:#x}", "drop")
        self._wake()

    def _declare(self):
        """Not in mid-prepare, when a new area could be zeroed while it is in use."""
        if self._socket is None or self._phase in ("preparing", "answered"):
            return
        for area in self._ranges:
            if not area[2]:
                area[2] = True
                self._send(f"area {area[0]:#x} {area[1]:#x}")

    def _undeclare(self):
        for area in self._ranges:
            area[2] = False

    def _withdraw(self):
        """Gives up nothing in this migration; outside of one, starts again from the list."""
        self._undeclare()
        self._send("drop", "withdraw")
        self._declare()

    # The connection. Only the helper thread reads and writes it.

    def _wake(self):
        try:
            self._wake_writer.send(b"w")
        except OSError:
            pass  # full: it is awake already; closed: it has ended

    def _send(self, line, kind="any"):
        if self._socket is None:
            return
        self._out += line.encode("ascii") + b"\n"
        self._unanswered.append(kind)
        self._drops += kind != "any"

    def _serve(self):
        selector = selectors.DefaultSelector()
        selector.register(self._wake_reader, selectors.EVENT_READ)
        while not self._closed:
            if self._path and self._socket is None and time.monotonic() >= self._retry_at:
                self._connect(selector)
            wait_s = None
            if self._socket is not None:
                self._flush(selector)
            elif self._path:
                wait_s = max(0.0, self._retry_at - time.monotonic())
            for key, events in self._select(selector, wait_s):
                if key.fileobj is self._wake_reader:
                    self._wake_reader.recv(4096)
                elif events & selectors.EVENT_READ:
                    self._read(selector)
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        selector.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _select(self, selector, wait_s):
        """A wait for the next attempt to connect is not shortened by being woken, unless to end."""
        if wait_s is None:
            return selector.select()
        end = time.monotonic() + wait_s
        while not self._closed and time.monotonic() < end:
            if selector.select(max(0.0, end - time.monotonic())):
                self._wake_reader.recv(4096)
        return []

    def _connect(self, selector):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.setblocking(False)
        try:
            peer.connect(self._path)
        except OSError:
            peer.close()
            self._retry_later()
            return
        with self._lock:
            self._socket = peer
            selector.register(peer, selectors.EVENT_READ)
            if self._name:
                self._send(f"name {self._name}")
            self._declare()

    def _retry_later(self):
        """Each fruitless attempt doubles the wait, up to 30 s: a machine without an agent is not kept awake."""
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, _RETRY_S_MAX)

    def _flush(self, selector):
        with self._lock:
            if len(self._out) > _OUT_BYTES or len(self._unanswered) > _UNANSWERED_MAX:
                self._socket.shutdown(socket.SHUT_RDWR)  # it reads nothing; seen as the end when reading
                self._out.clear()
            try:
                while self._out:
                    del self._out[: self._socket.send(self._out)]
            except BlockingIOError:
                pass
            except OSError:
                self._out.clear()  # seen as the end when reading
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
            selector.modify(self._socket, events)

    def _disconnect(self, selector, why):
        with self._lock:
            interrupted = self._phase != "idle"
            selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
            self._in.clear()
            self._out.clear()
            self._unanswered.clear()
            self._drops = 0
            self._answer = False
            self._phase = "idle"
            self._held.clear()
            self._undeclare()
            self._retry_later()
        self._call("trouble", why)
        if interrupted:
            self._call("abort")

    def _read(self, selector):
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect(selector, "connection to the agent lost")
            return
        self._in += data
        while True:
            end = self._in.find(b"\n")
            if (end if end >= 0 else len(self._in)) > _LINE_BYTES:
                self._disconnect(selector, "the agent sent a line that is too long")
                return
            if end < 0:
                return
            line = self._in[:end].decode("ascii", "replace")
            del self._in[: end + 1]
            self._line(line)
            self._flush(selector)

    # What the agent says.

    def _line(self, line):
        word, _, rest = line.partition(" ")
        if word != "error":
            # Not one that refuses and closes: such a one is not asked four times a second.
            self._retry_s = _RETRY_S
        if word in ("ok", "error"):
            self._replied(None if word == "ok" else rest or "refused")
        elif word == "begin":
            self._phase = "begun"
            self._call("begin")
        elif word == "prepare" and rest.isdigit():
            self._prepare(int(rest))
        elif word in ("resume", "abort"):
            with self._lock:
                self._phase = "idle"
                self._answer = False
                self._held.clear()
            self._call(word)
            with self._lock:
                self._declare()
        # Anything else is a later version's event, which may be ignored.
        self._settle()

    def _replied(self, error):
        with self._lock:
            if not self._unanswered:
                return
            kind = self._unanswered.popleft()
            self._drops -= kind != "any"
            if error is None:
                return
            if kind == "drop":
                self._withdraw()
            elif kind == "withdraw":
                # The last means: a closed connection has no areas.
                self._socket.shutdown(socket.SHUT_RDWR)
        self._call("trouble", error)

    def _prepare(self, deadline_ms):
        with self._lock:
            self._phase = "preparing"
            self._answer = False
        stopped = self._call("prepare", deadline_ms)
        with self._lock:
            if not stopped:
                self._withdraw()
            self._answer = True

    def _settle(self):
        """Only after the agent has confirmed every drop may it hear `ready`: a refused drop would be zeroed memory."""
        with self._lock:
            if self._answer and self._drops == 0 and self._phase == "preparing":
                self._answer = False
                self._phase = "answered"
                self._send("ready")

    def _call(self, method, *values):
        """False if it failed."""
        try:
            function = getattr(self._handler, method)
            if self._loop is None:
                function(*values)
            else:
                asyncio.run_coroutine_threadsafe(_in_loop(function, values), self._loop).result()
            return True
        except Exception as error:  # whatever a handler may raise must not end the thread
            if method != "trouble":
                self._call("trouble", f"{method} failed: {type(error).__name__}: {error}")
            return False


async def _in_loop(function, values):
    result = function(*values)
    if inspect.isawaitable(result):
        await result
