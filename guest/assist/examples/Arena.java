import java.nio.ByteBuffer;
import java.util.concurrent.Semaphore;
import org.godwit.assist.GodwitAssist;

/**
 * The least that a Java program does to assist: results of a slow computation in a direct buffer.
 *
 * <p>A slot that is zero is one that is not computed yet, so memory that has become zero is slow, never wrong. A semaphore (a lock
 * that another thread may give back) keeps the arena still between {@code prepare} and the end of the migration.
 */
public final class Arena implements GodwitAssist.Handler {
    private static final int SLOTS = 4 << 20;
    private final ByteBuffer arena = ByteBuffer.allocateDirect(SLOTS * Long.BYTES);
    private final Semaphore inUse = new Semaphore(1);
    private boolean still; // the helper thread's

    /** Never 0, and the same for the same number at any time. */
    private static long compute(long number) {
        return (number * 6364136223846793005L + 1442695040888963407L) | 1;
    }

    private long lookup(long number) {
        int at = (int) (number % SLOTS) * Long.BYTES;
        inUse.acquireUninterruptibly();
        try {
            if (arena.getLong(at) == 0) arena.putLong(at, compute(number % SLOTS));
            return arena.getLong(at);
        } finally {
            inUse.release();
        }
    }

    @Override
    public void prepare(long deadlineMs) {
        System.out.println("prepare within " + deadlineMs + " ms");
        if (!still) inUse.acquireUninterruptibly(); // kept: lookup waits meanwhile
        still = true;
    }

    /** May come without {@code prepare}, if the migration ends before that. */
    @Override
    public void resume() {
        if (still) inUse.release();
        still = false;
        System.out.println("goes on");
    }

    @Override
    public void abort() {
        resume();
    }

    @Override
    public void trouble(String text) {
        System.err.println("assistance: " + text);
    }

    public static void main(String[] arguments) throws InterruptedException {
        Arena program = new Arena();
        try (GodwitAssist assist = new GodwitAssist("arena-java", program)) {
            assist.area(program.arena);
            for (long number = 0; ; number += 7919) {
                if (program.lookup(number) != compute(number % SLOTS)) throw new AssertionError("WRONG");
                if (number % 101 == 0) Thread.sleep(1);
            }
        }
    }
}
