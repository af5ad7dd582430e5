package org.godwit.assist;

import java.io.IOException;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.ProtocolFamily;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Tells godwit which memory of this program need not travel in a live migration.
 *
 * <pre>{@code
 * ByteBuffer arena = ByteBuffer.allocateDirect(1 << 30);
 * GodwitAssist assist = new GodwitAssist("my-cache", new GodwitAssist.Handler() {
 *     public void prepare(long deadlineMs) { cache.suspend(); }   // from now on nobody touches the arena
 *     public void resume() { cache.clear(); }                     // at the destination: it may have become zero
 *     public void abort() { cache.clear(); }                      // stayed here: same caution
 * });
 * assist.area(arena);
 * }</pre>
 *
 * <p>No dependencies, no native code, no JVM flags. Compiles for Java 11; works from Java 16 on, where the JDK has Unix domain
 * sockets. On an older JVM it says so once as trouble, and is otherwise as without an agent. docs/ASSIST.md explains what the
 * program promises. The memory that a JVM's own collector has left dead is godwit's business and needs none of this.
 *
 * <p>Without an agent every call still succeeds and nothing ever happens. The library keeps the list of areas: when the agent
 * restarts it connects again and declares them again. If the connection is lost in mid-migration the handler hears {@code abort},
 * so that it is never left waiting. Everything runs in one daemon thread, the handler's methods too; area() and drop() may be called
 * from any thread.
 */
public final class GodwitAssist implements AutoCloseable {
    public static final int AREAS_MAX = 1024;

    private static final int LINE_BYTES_MAX = 256;
    private static final int OUT_BYTES_MAX = 98_304;
    private static final long RETRY_MS = 250;
    private static final long RETRY_MS_MAX = 30_000;
    /** Less could not hold one whole page wherever it lies. */
    private static final int AREA_BYTES_MIN = 8192;

    /** What a program may do at each event. */
    public interface Handler {
        /** A migration begins: nothing has to be done. */
        default void begin() {}

        /**
         * Stop reading and writing the areas, drop what must be kept, and return: that is the answer. An exception means that the
         * program cannot stop; then no area is disposable in this migration, and they are declared again after it. Later than the
         * deadline is no mistake, but then the memory travels.
         */
        default void prepare(long deadlineMs) throws Exception {
            throw new UnsupportedOperationException("no prepare: nothing can be given up");
        }

        /** The program runs at the destination: areas may have become zero, wholly or in part. */
        default void resume() {}

        /** The migration did not happen: same caution. */
        default void abort() {}

        /** What the agent refused, lost connections, exceptions of the other methods. For a log. */
        default void trouble(String text) {}
    }

    /** Declared memory. Keeps its buffer from being freed. */
    public final class Area {
        private ByteBuffer buffer;
        private final long address;
        private final int length;

        private Area(ByteBuffer buffer, long address) {
            this.buffer = buffer;
            this.address = address;
            this.length = buffer.capacity();
        }

        /** 0: assistance is off, or the address was not found (said as trouble). */
        public long address() {
            return address;
        }

        public int length() {
            return length;
        }

        /** Withdraws all of it. After {@code prepare} is answered it is too late for this migration. */
        public void drop() {
            drop(0, length);
        }

        /** Withdraws a part. */
        public void drop(int offset, int bytes) {
            if (offset < 0 || bytes < 0 || offset > length - bytes) throw new IndexOutOfBoundsException("outside the area");
            if (address != 0) dropRange(this, address + offset, bytes);
        }
    }

    private enum Phase { IDLE, BEGUN, PREPARING, ANSWERED }

    private enum Line { ANY, DROP, WITHDRAW }

    private static final class Range {
        final long begin;
        final long end;
        boolean declared;

        Range(long begin, long end, boolean declared) {
            this.begin = begin;
            this.end = end;
            this.declared = declared;
        }
    }

    private final Handler handler;
    private final String name;
    private final String path;
    private final Thread thread;
    private final Selector selector;

    // Guarded by this object's lock. The handler is called without it.
    private List<Range> ranges = new ArrayList<>();
    private final Set<Area> areas = new HashSet<>();
    /** Buffers dropped in mid-prepare: freed now, their addresses could be another's when they are zeroed. */
    private final List<ByteBuffer> held = new ArrayList<>();
    private Phase phase = Phase.IDLE;
    /** {@code ready} is to be sent as soon as all drops are answered. */
    private boolean answer;
    /** Drop lines without an answer. */
    private int drops;
    private final ArrayDeque<Line> unanswered = new ArrayDeque<>();
    private final StringBuilder out = new StringBuilder();
    private SocketChannel channel;
    private boolean closed;

    // Used by the thread only.
    private final StringBuilder in = new StringBuilder();
    private final ByteBuffer received = ByteBuffer.allocate(4096);
    private long retryMs = RETRY_MS;

    /** Connects, now or as soon as there is an agent: to $GODWIT_ASSIST, else /run/godwit/assist.sock; empty switches it off. */
    public GodwitAssist(String name, Handler handler) {
        this(name, handler, System.getenv().getOrDefault("GODWIT_ASSIST", "/run/godwit/assist.sock"));
    }

    public GodwitAssist(String name, Handler handler, String path) {
        this.handler = handler;
        this.name = name.substring(0, Math.min(name.length(), 127)).replaceAll("[^ -~]", "?");
        this.path = path;
        try {
            this.selector = Selector.open();
        } catch (IOException error) {
            throw new java.io.UncheckedIOException(error);
        }
        this.thread = new Thread(this::serve, "godwit-assist");
        thread.setDaemon(true);
        thread.start();
    }

    /**
     * Declares a direct buffer disposable, from 0 to its capacity; only the whole pages inside count. Finds its address by a scan of
     * this process's memory (FindBuffer), which takes that time and changes the first 16 bytes for a moment: call it once, before
     * other threads use the buffer. Declared between {@code prepare} and {@code resume} or {@code abort}, it counts from the end of
     * that migration on.
     */
    public Area area(ByteBuffer buffer) {
        if (!buffer.isDirect() || buffer.isReadOnly())
            throw new IllegalArgumentException("only a writable direct buffer can be declared");
        if (buffer.capacity() < AREA_BYTES_MIN) throw new IllegalArgumentException("too small to be worth anything");
        Area area = new Area(buffer, path.isEmpty() ? 0 : find(buffer));
        if (area.address == 0) return area;
        synchronized (this) {
            if (ranges.size() >= AREAS_MAX) throw new IllegalStateException("more than " + AREAS_MAX + " areas");
            areas.add(area);
            ranges.add(new Range(area.address, area.address + area.length, false));
            declare();
        }
        selector.wakeup();
        return area;
    }

    private long find(ByteBuffer buffer) {
        try {
            long address = FindBuffer.addressOf(buffer);
            if (address == 0) trouble("the address of a buffer was not found");
            return address;
        } catch (IOException error) {
            trouble("cannot read this process's own memory: " + error);
            return 0;
        }
    }

    /** Withdraws every area. */
    public void dropAll() {
        synchronized (this) {
            ranges.clear();
            for (Area area : new ArrayList<>(areas)) forget(area);
            send("drop", Line.WITHDRAW);
        }
        selector.wakeup();
    }

    public synchronized boolean connected() {
        return channel != null;
    }

    /** Withdraws everything. Waits for the handler's method that is running, unless called from it. */
    @Override
    public void close() {
        synchronized (this) {
            closed = true;
        }
        selector.wakeup();
        if (Thread.currentThread() == thread) return;
        try {
            thread.join();
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    // What the program has declared.

    private void dropRange(Area area, long address, int bytes) {
        long end = address + bytes;
        synchronized (this) {
            List<Range> kept = new ArrayList<>();
            for (Range range : ranges) {
                long before = Math.min(address, range.end);
                long after = Math.max(end, range.begin);
                if (range.begin < before) kept.add(new Range(range.begin, before, range.declared));
                if (after < range.end) kept.add(new Range(after, range.end, range.declared));
            }
            ranges = new ArrayList<>(kept.subList(0, Math.min(kept.size(), AREAS_MAX)));
            if (bytes == area.length) forget(area);
            send("drop 0x" + Long.toHexString(address) + " 0x" + Integer.toHexString(bytes), Line.DROP);
        }
        selector.wakeup();
    }

    private void forget(Area area) {
        if (inPrepare() && area.buffer != null) held.add(area.buffer);
        area.buffer = null;
        areas.remove(area);
    }

    private boolean inPrepare() {
        return phase == Phase.PREPARING || phase == Phase.ANSWERED;
    }

    /** Not in mid-prepare, when a new area could be zeroed while it is in use. */
    private void declare() {
        if (channel == null || inPrepare()) return;
        for (Range range : ranges) {
            if (range.declared) continue;
            range.declared = true;
            send("area 0x" + Long.toHexString(range.begin) + " 0x" + Long.toHexString(range.end - range.begin), Line.ANY);
        }
    }

    private void undeclare() {
        for (Range range : ranges) range.declared = false;
    }

    /** Gives up nothing in this migration; outside of one, starts again from the list. */
    private void withdraw() {
        undeclare();
        send("drop", Line.WITHDRAW);
        declare();
    }

    private void send(String line, Line kind) {
        if (channel == null) return;
        out.append(line).append('\n');
        unanswered.add(kind);
        if (kind != Line.ANY) drops++;
    }

    // The connection. Only the thread reads and writes it.

    private void serve() {
        try {
            while (!closed()) {
                long waitMs = 0;
                if (!path.isEmpty() && !connected() && !connect()) waitMs = nextRetryMs();
                flush();
                await(waitMs);
                selector.selectedKeys().clear();
                if (connected()) read();
            }
            synchronized (this) {
                if (channel != null) channel.close();
                channel = null;
                areas.clear();
            }
            selector.close();
        } catch (IOException error) {
            trouble("assistance ends: " + error);
        } catch (UnsupportedOperationException error) {
            trouble(error.getMessage());
        }
    }

    private synchronized boolean closed() {
        return closed;
    }

    private long nextRetryMs() {
        long now = retryMs;
        retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
        return now;
    }

    /** 0: until there is something. A wait for the next attempt to connect is not shortened by being woken, unless to end. */
    private void await(long waitMs) throws IOException {
        long end = System.nanoTime() + waitMs * 1_000_000;
        do {
            selector.select(waitMs == 0 ? 0 : Math.max(1, (end - System.nanoTime()) / 1_000_000));
        } while (waitMs > 0 && !closed() && System.nanoTime() < end);
    }

    private boolean connect() throws IOException {
        SocketChannel peer = null;
        try {
            peer = open(path);
            peer.configureBlocking(false);
            peer.register(selector, SelectionKey.OP_READ);
        } catch (IOException nobodyThere) {
            if (peer != null) peer.close();
            return false;
        }
        synchronized (this) {
            channel = peer;
            if (!name.isEmpty()) send("name " + name, Line.ANY);
            declare();
        }
        return true;
    }

    /** By reflection, so that the class still loads on a JVM without Unix domain sockets. */
    private static SocketChannel open(String path) throws IOException {
        try {
            SocketAddress address =
                    (SocketAddress) Class.forName("java.net.UnixDomainSocketAddress").getMethod("of", String.class).invoke(null, path);
            ProtocolFamily unix = StandardProtocolFamily.valueOf("UNIX");
            SocketChannel channel = (SocketChannel) SocketChannel.class.getMethod("open", ProtocolFamily.class).invoke(null, unix);
            try {
                channel.connect(address);
            } catch (IOException | RuntimeException error) {
                channel.close();
                throw error;
            }
            return channel;
        } catch (ReflectiveOperationException | IllegalArgumentException error) {
            throw new UnsupportedOperationException("this JVM has no Unix domain sockets: assistance needs Java 16", error);
        }
    }

    private void flush() {
        synchronized (this) {
            if (channel == null) return;
            try {
                if (out.length() > OUT_BYTES_MAX) {
                    channel.shutdownInput(); // it reads nothing; seen as the end when reading
                    out.setLength(0);
                }
                int done = channel.write(ByteBuffer.wrap(out.toString().getBytes(StandardCharsets.US_ASCII)));
                out.delete(0, done);
            } catch (IOException seenWhenReading) {
                out.setLength(0);
            }
            SelectionKey key = channel.keyFor(selector);
            key.interestOps(SelectionKey.OP_READ | (out.length() > 0 ? SelectionKey.OP_WRITE : 0));
        }
    }

    private void read() throws IOException {
        received.clear();
        int bytes;
        try {
            bytes = channel.read(received);
        } catch (IOException lost) {
            bytes = -1;
        }
        if (bytes < 0) {
            disconnect("connection to the agent lost");
            return;
        }
        in.append(StandardCharsets.ISO_8859_1.decode(received.flip()));
        for (int end = in.indexOf("\n"); end >= 0; end = in.indexOf("\n")) {
            String line = in.substring(0, end);
            in.delete(0, end + 1);
            if (line.length() > LINE_BYTES_MAX) {
                disconnect("the agent sent a line that is too long");
                return;
            }
            line(line);
            flush();
        }
        if (in.length() > LINE_BYTES_MAX) disconnect("the agent sent a line that is too long");
    }

    private void disconnect(String why) throws IOException {
        boolean interrupted;
        synchronized (this) {
            interrupted = phase != Phase.IDLE;
            channel.close();
            channel = null;
            in.setLength(0);
            out.setLength(0);
            unanswered.clear();
            drops = 0;
            answer = false;
            phase = Phase.IDLE;
            held.clear();
            undeclare();
        }
        selector.selectNow(); // forgets the closed channel
        trouble(why);
        if (interrupted) call("abort", handler::abort);
        await(nextRetryMs());
    }

    // What the agent says.

    private void line(String line) {
        int blank = line.indexOf(' ');
        String word = blank < 0 ? line : line.substring(0, blank);
        String rest = blank < 0 ? "" : line.substring(blank + 1);
        // Not one that refuses and closes: such a one is not asked four times a second.
        if (!word.equals("error")) retryMs = RETRY_MS;
        if (word.equals("ok")) {
            replied(null);
        } else if (word.equals("error")) {
            replied(rest.isEmpty() ? "refused" : rest);
        } else if (word.equals("begin")) {
            enter(Phase.BEGUN);
            call("begin", handler::begin);
        } else if (word.equals("prepare") && rest.matches("\\d{1,18}")) {
            prepare(Long.parseLong(rest));
        } else if (word.equals("resume") || word.equals("abort")) {
            enter(Phase.IDLE);
            if (word.equals("resume")) call(word, handler::resume);
            else call(word, handler::abort);
            synchronized (this) {
                declare();
            }
        } // anything else is a later version's event, which may be ignored
        settle();
    }

    private synchronized void enter(Phase next) {
        phase = next;
        answer = false;
        if (next == Phase.IDLE) held.clear();
    }

    private void prepare(long deadlineMs) {
        enter(Phase.PREPARING);
        boolean stopped = call("prepare", () -> handler.prepare(deadlineMs));
        synchronized (this) {
            if (!stopped) withdraw();
            answer = true;
        }
    }

    /** Only after the agent has confirmed every drop may it hear ready: a refused drop would be zeroed memory. */
    private synchronized void settle() {
        if (!answer || drops > 0 || phase != Phase.PREPARING) return;
        answer = false;
        phase = Phase.ANSWERED;
        send("ready", Line.ANY);
    }

    private void replied(String error) {
        synchronized (this) {
            Line kind = unanswered.poll();
            if (kind == null) return;
            if (kind != Line.ANY) drops--;
            if (error == null) return;
            if (kind == Line.DROP) withdraw();
            if (kind == Line.WITHDRAW) hangUp();
        }
        trouble(error);
    }

    /** The last means to withdraw: a closed connection has no areas. Seen as the end when reading. */
    private void hangUp() {
        try {
            channel.shutdownInput();
            channel.shutdownOutput();
        } catch (IOException alreadyGone) {
            // Then it has no areas either.
        }
    }

    private interface Callback {
        void run() throws Exception;
    }

    /** False if it failed. Whatever a handler may throw must not end the thread. */
    private boolean call(String method, Callback callback) {
        try {
            callback.run();
            return true;
        } catch (Exception | LinkageError | AssertionError error) {
            trouble(method + " failed: " + error);
            return false;
        }
    }

    private void trouble(String text) {
        try {
            handler.trouble(text);
        } catch (RuntimeException nobodyLeftToTell) {
            // A log that fails.
        }
    }
}
