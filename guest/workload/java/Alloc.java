/**
 * Rapid, short-lived garbage: an operation makes a chain of small objects, walks over it and forgets it. The best case
 * for a migration that leaves the young generation out.
 *
 * Arguments besides the harness's: rate=max (MB/s of garbage, all threads together), batch=64 (KB in an operation),
 * mix=mixed (small: 32-128 bytes; mixed: a twentieth of the objects up to 8 KB; large: 1-8 KB), linger=1024 (KB of
 * garbage that stays reachable for a while, so that a collection finds survivors), churn=0 (after so many operations
 * a long-lived object is replaced; 0: never).
 */
final class Alloc implements Harness.Task {
  private static final class Node {
    final Node next;
    final int tag;
    final int[] data;

    Node(Node next, int tag, int words) {
      this.next = next;
      this.tag = tag;
      data = new int[words];
      data[0] = tag;
      data[words - 1] = ~tag;
    }
  }

  /** With the object header and the Node that holds it. */
  private static final int OVERHEAD_BYTES = 40;

  private final Harness harness;
  private final int thread;
  private final int batchBytes;
  private final long churn;
  private final Node[] lingering;
  private final int[] lingeringSums;
  private final int[] words = new int[1024];
  private final Pace pace;

  public static void main(String[] arguments) {
    Harness.run("Alloc", arguments, Alloc::new);
  }

  Alloc(int thread, Options options, Harness harness) {
    this.harness = harness;
    this.thread = thread;
    batchBytes = (int) options.number("batch", 64) << 10;
    churn = options.number("churn", 0);
    int count = (int) Math.max(1, (options.number("linger", 1024) << 10) / batchBytes);
    lingering = new Node[count];
    lingeringSums = new int[count];
    long seed = 1;
    for (int i = 0; i < words.length; i++) {
      seed = seed * 6364136223846793005L + 1442695040888963407L;
      words[i] = wordsFor(options.text("mix", "mixed"), (int) (seed >>> 33));
    }
    String rate = options.text("rate", "max");
    long bytes = rate.equals("max") ? 0 : Long.parseLong(rate) * 1_000_000 / options.number("threads", 1);
    pace = new Pace(bytes);
  }

  @Override
  public void operation(long number) throws InterruptedException {
    int seed = (int) number * 0x9e3779b1 + thread;
    Node chain = null;
    int made = 0;
    int sum = 0;
    for (int tag = seed; made < batchBytes; tag++) {
      int length = words[tag & words.length - 1];
      chain = new Node(chain, tag, length);
      made += length * 4 + OVERHEAD_BYTES;
      sum += tag ^ length;
    }
    check(chain, sum);
    int slot = (int) (number % lingering.length);
    if (lingering[slot] != null) check(lingering[slot], lingeringSums[slot]);
    lingering[slot] = chain;
    lingeringSums[slot] = sum;
    if (churn > 0 && number % churn == 0) harness.live().replace(thread);
    pace.spend(made);
  }

  private static void check(Node chain, int sum) {
    int found = 0;
    for (Node node = chain; node != null; node = node.next) {
      int[] data = node.data;
      if (data[0] != node.tag || data[data.length - 1] != ~node.tag) {
        throw new Harness.Wrong("a new object holds " + data[0] + " instead of " + node.tag);
      }
      found += node.tag ^ data.length;
    }
    if (found != sum) throw new Harness.Wrong("a chain adds up to " + found + " instead of " + sum);
  }

  private static int wordsFor(String mix, int random) {
    switch (mix) {
      case "small":
        return 4 + random % 24;
      case "large":
        return 256 + random % 1792;
      default:
        int kind = random % 20;
        int more = random / 20;
        return kind == 0 ? 256 + more % 1792 : kind < 6 ? 32 + more % 224 : 4 + more % 24;
    }
  }
}
