/** Prints a tick line four times a second: shows that a Java guest boots and keeps running. */
final class Ticks {
  public static void main(String[] arguments) throws InterruptedException {
    long period = 250;
    long next = System.nanoTime();
    for (long tick = 1; ; tick++) {
      byte[][] garbage = new byte[256][];
      for (int i = 0; i < garbage.length; i++) garbage[i] = new byte[4096];
      System.out.println("godwit-guest tick " + tick + " ok java " + garbage.length);
      next += period * 1_000_000;
      Thread.sleep(Math.max(1, (next - System.nanoTime()) / 1_000_000));
    }
  }
}
