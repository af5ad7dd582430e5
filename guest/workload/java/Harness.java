import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Runs a workload for ever and lets the outside see how it does. Three kinds of lines on the console:
 *
 *   b 1234                                             a beat: so many operations were done and found right
 *   godwit-guest tick 5 ok java Alloc operations 1234 sweeps 3
 *                                                      four times a second, for tests; a sweep is done when all that
 *                                                      lives long was checked
 *   godwit-guest CORRUPT java Alloc FAILED: ...        a wrong result, or an error; the JVM ends with status 3
 *
 * The first two come from a thread that performs operations, between two of them or from inside one (`pulse`), never from
 * a timer: a gap between beats is time in which the application did nothing. The guest's clock stands still with the
 * VM, so whoever reads the console has to look at his own.
 *
 * Arguments of every workload: threads=1, beatms=10, tickms=250, live=0 (MB of long-lived objects, checked all the
 * time), checks=2 (of them, in an operation), pause=0 (ms of sleep after each operation).
 *
 * Java 8's language and library, so that it runs on all of them.
 */
final class Harness {
  /** Operations of one thread; they are called one after the other. */
  interface Task {
    /** Throws Wrong, or anything else, when a result is not what it should be. */
    void operation(long number) throws Exception;
  }

  interface Workload {
    Task task(int thread, Options options, Harness harness) throws Exception;
  }

  /** A result that is not what it should be. */
  static final class Wrong extends RuntimeException {
    private static final long serialVersionUID = 1;

    Wrong(String text) {
      super(text);
    }
  }

  private final String name;
  private final Options options;
  private final AtomicLong operations = new AtomicLong();
  private final AtomicLong sweeps = new AtomicLong();
  private final FileOutputStream console = new FileOutputStream(FileDescriptor.out);
  private final byte[] beatLine = new byte[32];
  private final long beatNs;
  private final long tickNs;
  private final LiveSet live;
  private volatile long nextBeatNs;
  private long nextTickNs;
  private long ticks;

  static void run(String name, String[] arguments, Workload workload) {
    Harness harness = new Harness(name, new Options(arguments));
    try {
      harness.start(workload);
    } catch (Throwable error) {
      harness.fail(error);
    }
  }

  private Harness(String name, Options options) {
    this.name = name;
    this.options = options;
    beatNs = options.number("beatms", 10) * 1_000_000;
    tickNs = options.number("tickms", 250) * 1_000_000;
    live = new LiveSet(options.number("live", 0), (int) options.number("threads", 1));
  }

  private void start(Workload workload) throws Exception {
    int threads = (int) options.number("threads", 1);
    Task[] tasks = new Task[threads];
    for (int i = 0; i < threads; i++) tasks[i] = workload.task(i, options, this);
    say("godwit-guest java " + name + " on " + System.getProperty("java.version") + " live-mb "
        + options.number("live", 0) + "\n");
    nextBeatNs = nextTickNs = System.nanoTime();
    for (int i = 1; i < threads; i++) {
      int thread = i;
      new Thread(() -> loop(tasks[thread], thread), "work-" + i).start();
    }
    loop(tasks[0], 0);
  }

  private void loop(Task task, int thread) {
    long checks = options.number("checks", 2);
    long pauseMs = options.number("pause", 0);
    try {
      for (long number = 0; ; number++) {
        task.operation(number);
        if (live.check(thread, checks) && thread == 0) swept();
        operations.incrementAndGet();
        pulse();
        if (pauseMs > 0) Thread.sleep(pauseMs);
      }
    } catch (Throwable error) {
      fail(error);
    }
  }

  /** All that lives long was looked at once more. */
  void swept() {
    sweeps.incrementAndGet();
  }

  LiveSet live() {
    return live;
  }

  /** For operations that take long: says that this thread gets on, if it is time to. */
  void pulse() {
    if (System.nanoTime() - nextBeatNs >= 0) beat();
  }

  private synchronized void beat() {
    long now = System.nanoTime();
    if (now - nextBeatNs < 0) return;
    try {
      writeBeat();
      if (now - nextTickNs >= 0) {
        nextTickNs = Math.max(nextTickNs + tickNs, now);
        say("godwit-guest tick " + ++ticks + " ok java " + name + " operations " + operations + " sweeps " + sweeps + "\n");
      }
    } catch (IOException error) {
      fail(error);
    }
    nextBeatNs = Math.max(nextBeatNs + beatNs, now + beatNs / 2);
  }

  /** Without garbage, so that the measure does not change what it measures. */
  private void writeBeat() throws IOException {
    int at = beatLine.length;
    beatLine[--at] = '\n';
    long number = operations.get();
    do {
      beatLine[--at] = (byte) ('0' + number % 10);
      number /= 10;
    } while (number > 0);
    beatLine[--at] = ' ';
    beatLine[--at] = 'b';
    console.write(beatLine, at, beatLine.length - at);
  }

  private void say(String line) throws IOException {
    console.write(line.getBytes(StandardCharsets.US_ASCII));
  }

  private void fail(Throwable error) {
    StringWriter trace = new StringWriter();
    error.printStackTrace(new PrintWriter(trace));
    // An exception that nobody expected is what damaged memory looks like from inside.
    try {
      say("\ngodwit-guest CORRUPT java " + name + " FAILED: " + trace + "\n");
    } catch (IOException lost) {
      // Nobody could be told.
    }
    Runtime.getRuntime().halt(3);
  }
}
