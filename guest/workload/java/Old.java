/**
 * A large old generation that changes slowly, little garbage: the worst case for a migration that leaves the young
 * generation out. Blocks of numbers, a grid of `mb` in all, are relaxed one after the other in random order (as
 * SciMark's SOR does), each checked first against the sum that it was left with.
 *
 * Arguments besides the harness's: mb=300, rate=8 (MB of blocks rewritten a second; all threads together).
 */
final class Old implements Harness.Task {
  private static final int BLOCK_WORDS = 2048;

  private final Harness harness;
  private final double[][] blocks;
  private final double[] sums;
  private final Pace pace;
  private long random;
  private int checked;

  public static void main(String[] arguments) {
    Harness.run("Old", arguments, Old::new);
  }

  Old(int thread, Options options, Harness harness) {
    this.harness = harness;
    long threads = options.number("threads", 1);
    random = thread + 1;
    pace = new Pace(options.number("rate", 8) * 1_000_000 / threads);
    blocks = new double[(int) ((options.number("mb", 300) << 20) / threads / (BLOCK_WORDS * 8))][];
    sums = new double[blocks.length];
    for (int i = 0; i < blocks.length; i++) {
      blocks[i] = new double[BLOCK_WORDS];
      for (int k = 0; k < BLOCK_WORDS; k++) blocks[i][k] = (nextRandom() >>> 40) / 16777216.0;
      sums[i] = sum(blocks[i]);
    }
  }

  @Override
  public void operation(long number) throws InterruptedException {
    int at = (int) (nextRandom() >>> 33) % blocks.length;
    check(at);
    double[] block = blocks[at];
    for (int i = 1; i < block.length - 1; i++) {
      block[i] = 0.25 * block[i] + 0.375 * (block[i - 1] + block[i + 1]);
    }
    block[0] = (nextRandom() >>> 40) / 16777216.0;
    sums[at] = sum(block);
    checked = (checked + 1) % blocks.length;
    check(checked);
    if (checked == 0) harness.swept();
    pace.spend(BLOCK_WORDS * 8);
  }

  private void check(int at) {
    double found = sum(blocks[at]);
    if (found != sums[at]) throw new Harness.Wrong("block " + at + " adds up to " + found + ", not " + sums[at]);
  }

  private static double sum(double[] block) {
    double sum = 0;
    for (double value : block) sum += value;
    return sum;
  }

  private long nextRandom() {
    random = random * 6364136223846793005L + 1442695040888963407L;
    return random;
  }
}
