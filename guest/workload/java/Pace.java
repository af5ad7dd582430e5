/** Holds a thread to so many bytes a second by short sleeps; time that was lost is not made up for in one burst. */
final class Pace {
  private static final long BURST_NS = 20_000_000;

  private final long bytesPerSecond;
  private long dueNs = System.nanoTime();

  /** 0: as fast as it goes. */
  Pace(long bytesPerSecond) {
    this.bytesPerSecond = bytesPerSecond;
  }

  void spend(long bytes) throws InterruptedException {
    if (bytesPerSecond == 0) return;
    long now = System.nanoTime();
    dueNs = Math.max(dueNs, now - BURST_NS) + bytes * 1_000_000_000 / bytesPerSecond;
    if (dueNs - now > 1_000_000) Thread.sleep((dueNs - now) / 1_000_000);
  }
}
