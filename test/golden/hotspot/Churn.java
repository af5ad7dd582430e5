import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Allocates without end and checks all it has allocated: new arrays must be zero, kept ones must hold what was put
 * into them, also after many collections. Any difference ends the program with exit code 3.
 *
 *   java Churn THREADS LIVE_MB LARGE_BYTES MB_PER_SECOND     LARGE_BYTES: size of an occasional large array, 0 for none
 *
 * Prints "ready", then "ok COUNT" about every 100 ms.
 */
public class Churn {
    static final AtomicLong checks = new AtomicLong();

    static final class Node {
        final long key;
        final byte[] bytes;
        final Node next;

        Node(long key, byte[] bytes, Node next) {
            this.key = key;
            this.bytes = bytes;
            this.next = next;
        }
    }

    public static void main(String[] args) throws Exception {
        int threads = Integer.parseInt(args[0]);
        long liveBytes = Long.parseLong(args[1]) << 20;
        int largeBytes = Integer.parseInt(args[2]);
        long bytesPerMs = (Long.parseLong(args[3]) << 20) / 1000 / threads;
        for (int index = 0; index < threads; index++) {
            long seed = index + 1;
            Thread thread = new Thread(() -> guard(seed, liveBytes / threads, largeBytes, bytesPerMs));
            thread.setDaemon(true);
            thread.start();
        }
        System.out.println("ready");
        while (true) {
            Thread.sleep(100);
            System.out.println("ok " + checks.get());
        }
    }

    static void guard(long seed, long liveBytes, int largeBytes, long bytesPerMs) {
        try {
            churn(seed, liveBytes, largeBytes, bytesPerMs);
        } catch (Throwable error) {
            System.out.println("wrong: " + error);
            Runtime.getRuntime().halt(3);
        }
    }

    static void churn(long seed, long liveBytes, int largeBytes, long bytesPerMs) throws Exception {
        ArrayDeque<Node> kept = new ArrayDeque<>();
        HashMap<Long, String> names = new HashMap<>();
        long random = seed;
        long live = 0;
        long sinceSleep = 0;
        byte[] large = null;
        for (long key = 0; ; key++) {
            random = random * 6364136223846793005L + 1442695040888963407L;
            int bytes = (int) (random >>> 33) & ((random & 0x3f00) == 0 ? 0xffff : 0x3ff);
            Node node = new Node(key, filled(bytes, key), null);
            // Mostly garbage; one of sixteen is kept for long, with a short list of others behind it.
            if ((random >>> 60) == 0) {
                for (int index = 0; index < 3; index++) {
                    node = new Node(key + index, filled(bytes >> 2, key + index), node);
                }
                kept.addLast(node);
                names.put(key, "name " + key);
                live += bytes * 2L + 200;
            }
            while (live > liveBytes) {
                Node old = kept.removeFirst();
                live -= check(old);
                String name = names.remove(lastOf(old).key);
                if (name != null && !name.equals("name " + lastOf(old).key)) throw new Error("name " + name);
            }
            if (largeBytes > 0 && (random >>> 52) == 0) {
                if (large != null) checkFilled(large, large.length);
                large = filled(largeBytes + (bytes << 6), largeBytes + (bytes << 6));
            }
            checks.incrementAndGet();
            sinceSleep += bytes + 64;
            if (sinceSleep > bytesPerMs * 4) {
                sinceSleep = 0;
                Thread.sleep(4);
            }
        }
    }

    static Node lastOf(Node node) {
        while (node.next != null) node = node.next;
        return node;
    }

    static byte[] filled(int bytes, long key) {
        byte[] array = new byte[bytes];
        for (int at = 0; at < bytes; at++) {
            if (array[at] != 0) throw new Error("a new array is not zero at " + at + " of " + bytes);
        }
        for (int at = 0; at < bytes; at++) array[at] = (byte) (key * 31 + at);
        return array;
    }

    static void checkFilled(byte[] array, long key) {
        for (int at = 0; at < array.length; at++) {
            if (array[at] != (byte) (key * 31 + at)) throw new Error("an array of " + array.length + " at " + at);
        }
    }

    static long check(Node node) {
        long bytes = 0;
        for (; node != null; node = node.next) {
            checkFilled(node.bytes, node.key);
            if (node.next == null) bytes = node.bytes.length * 2L + 200;
        }
        return bytes;
    }
}
