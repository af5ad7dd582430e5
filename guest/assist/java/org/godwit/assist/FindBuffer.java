package org.godwit.assist;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Where in this process's memory a direct buffer lies, without native code, flags or Unsafe.
 *
 * <p>A process may read its own memory through /proc/self/mem, so: write 16 random bytes into the buffer, look for them in every
 * mapping that is large enough, then change them and look again at the place found. Only the buffer itself changes with the
 * buffer; copies (the scan's own among them) do not. So the answer is certain.
 *
 * <p>Cost: one pass over the private anonymous memory that could hold the buffer (the Java heap may be part of it), once per
 * declared area. Figures: docs/ASSIST.md.
 */
final class FindBuffer {
    private static final int MARKER_BYTES = 16;
    private static final int CHUNK_BYTES = 1 << 20;
    private static final Pattern MAPPING =
            Pattern.compile("([0-9a-f]+)-([0-9a-f]+) rw.p \\S+ \\S+ 0\\s*(\\S*)");
    private static final SecureRandom RANDOM = new SecureRandom();

    private FindBuffer() {}

    /** The address of the first byte, or 0 if it was not found. The buffer's first 16 bytes are put back. */
    static long addressOf(ByteBuffer buffer) throws IOException {
        byte[] kept = new byte[MARKER_BYTES];
        ByteBuffer start = buffer.duplicate();
        start.position(0);
        start.get(kept);
        try (FileChannel memory = FileChannel.open(Path.of("/proc/self/mem"), StandardOpenOption.READ)) {
            byte[] marker = newMarker(buffer);
            ByteBuffer chunk = ByteBuffer.allocateDirect(CHUNK_BYTES);
            for (long[] mapping : mappings(buffer.capacity())) {
                // Memory just allocated most often lies at the very start of a mapping (mappings grow downwards): looked at
                // first, because that is one small read where a scan may be gigabytes.
                long address = scan(memory, chunk, mapping[0], mapping[0] + 4096, buffer, marker);
                if (address != 0) return address;
                marker = newMarker(buffer);
            }
            for (long[] mapping : mappings(buffer.capacity())) {
                long address = scan(memory, chunk, mapping[0], mapping[1] - buffer.capacity(), buffer, marker);
                if (address != 0) return address;
                marker = newMarker(buffer);
            }
            return 0;
        } finally {
            start.position(0);
            start.put(kept);
        }
    }

    private static byte[] newMarker(ByteBuffer buffer) {
        byte[] marker = new byte[MARKER_BYTES];
        RANDOM.nextBytes(marker);
        ByteBuffer start = buffer.duplicate();
        start.position(0);
        start.put(marker);
        return marker;
    }

    /** Private anonymous writable mappings of at least this size, the smallest first: often it is the buffer's own. */
    private static List<long[]> mappings(int bytes) throws IOException {
        List<long[]> found = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of("/proc/self/maps"))) {
            Matcher match = MAPPING.matcher(line);
            if (!match.matches()) continue;
            String name = match.group(3);
            if (!name.isEmpty() && !name.equals("[heap]") && !name.startsWith("[anon")) continue;
            long begin = Long.parseUnsignedLong(match.group(1), 16);
            long end = Long.parseUnsignedLong(match.group(2), 16);
            if (end - begin >= bytes) found.add(new long[] {begin, end});
        }
        found.sort(Comparator.comparingLong(mapping -> mapping[1] - mapping[0]));
        return found;
    }

    /** Looks for the marker at every place from begin to last. */
    private static long scan(
            FileChannel memory, ByteBuffer chunk, long begin, long last, ByteBuffer buffer, byte[] marker)
            throws IOException {
        byte[] bytes = new byte[CHUNK_BYTES];
        long at = begin;
        while (at <= last) {
            chunk.clear().limit((int) Math.min(CHUNK_BYTES, last + MARKER_BYTES - at));
            int got = read(memory, chunk, at);
            if (got < MARKER_BYTES) return 0;
            chunk.flip();
            chunk.get(bytes, 0, got);
            int found = indexOf(bytes, got, marker);
            if (found < 0) {
                at += got - (MARKER_BYTES - 1);
            } else if (isBuffer(memory, at + found, buffer, marker)) {
                return at + found;
            } else {
                at += found + 1;
            }
        }
        return 0;
    }

    private static int indexOf(byte[] bytes, int length, byte[] marker) {
        byte first = marker[0];
        for (int i = 0; i <= length - MARKER_BYTES; i++) {
            if (bytes[i] == first && Arrays.equals(bytes, i, i + MARKER_BYTES, marker, 0, MARKER_BYTES)) return i;
        }
        return -1;
    }

    /** Changes the marker, looks whether the memory at this address changes with it, and puts the marker back. */
    private static boolean isBuffer(FileChannel memory, long address, ByteBuffer buffer, byte[] marker)
            throws IOException {
        byte[] changed = newMarker(buffer);
        ByteBuffer now = ByteBuffer.allocate(MARKER_BYTES);
        boolean same = read(memory, now, address) == MARKER_BYTES && Arrays.equals(now.array(), changed);
        ByteBuffer start = buffer.duplicate();
        start.position(0);
        start.put(marker);
        return same;
    }

    /** Bytes read; 0 where nothing can be read. */
    private static int read(FileChannel memory, ByteBuffer into, long address) {
        try {
            return Math.max(0, memory.read(into, address));
        } catch (IOException unreadable) {
            return 0;
        }
    }
}
