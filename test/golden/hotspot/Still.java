import java.util.ArrayList;

/**
 * Fills a part of each space of the heap, then stands still, so that what the VM says of itself can be compared with what is
 * read from outside.
 *
 *   java Still OLD_MB SURVIVOR_MB EDEN_MB LARGE_BYTES
 */
public class Still {
    static final ArrayList<Object> kept = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        fill(Integer.parseInt(args[0]));
        System.gc();
        int large = Integer.parseInt(args[3]);
        if (large > 0) kept.add(new byte[large]);
        fill(Integer.parseInt(args[1]));
        // Garbage until eden is full, so that a young collection moves what was just kept to a survivor.
        int collections = Integer.parseInt(args[2]) * 3;
        for (int index = 0; index < collections * 64; index++) garbage = new byte[16 << 10];
        System.out.println("ready");
        Thread.sleep(1_000_000);
    }

    static volatile Object garbage;

    static void fill(int megabytes) {
        for (int index = 0; index < megabytes * 64; index++) kept.add(new byte[16 << 10]);
    }
}
