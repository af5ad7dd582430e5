/**
 * Long-lived objects whose every word is a function of (index, generation): what sits in an application's old
 * generation. Arrays of 256 B to 8 KB. Each thread checks, and replaces, its own share.
 *
 * A table beside it says which generation each must have, and the generations add up to the number of replacements:
 * an old copy of a page, be it of an array or of the table, does not go unnoticed.
 */
final class LiveSet {
  private static final int SMALLEST_WORDS = 32;
  private static final int SIZES = 6;

  private final long[][] entries;
  private final int[] generations;
  private final int threads;
  private final int[] checked;
  private final int[] replaced;
  private final long[] replacements;

  LiveSet(long megabytes, int threads) {
    this.threads = threads;
    long bytes = megabytes << 20;
    int count = 0;
    for (long used = 0; used < bytes; count++) used += wordsOf(count) * 8L + 16;
    entries = new long[count][];
    generations = new int[count];
    checked = new int[threads];
    replaced = new int[threads];
    replacements = new long[threads];
    for (int i = 0; i < count; i++) entries[i] = make(i, 0);
    for (int i = 0; i < threads; i++) checked[i] = replaced[i] = i;
  }

  int count() {
    return entries.length;
  }

  /** Looks at the next `count` entries of the thread; after the last one, at the table as a whole. True after that. */
  boolean check(int thread, long count) {
    if (thread >= entries.length) return false;
    boolean all = false;
    int at = checked[thread];
    for (long i = 0; i < count; i++) {
      checkEntry(at);
      at += threads;
      if (at < entries.length) continue;
      at = thread;
      checkTable(thread);
      all = true;
    }
    checked[thread] = at;
    return all;
  }

  /** Puts a new array in the place of the next one: the old one becomes garbage in the old generation. */
  void replace(int thread) {
    if (thread >= entries.length) return;
    int at = replaced[thread];
    checkEntry(at);
    entries[at] = make(at, ++generations[at]);
    replacements[thread]++;
    at += threads;
    replaced[thread] = at < entries.length ? at : thread;
  }

  private static int wordsOf(int index) {
    return SMALLEST_WORDS << ((index * 0x9e3779b9) >>> 16) % SIZES;
  }

  private static long[] make(int index, int generation) {
    long[] words = new long[wordsOf(index)];
    long word = first(index, generation);
    for (int i = 0; i < words.length; i++) words[i] = word = next(word);
    return words;
  }

  private void checkEntry(int index) {
    long[] words = entries[index];
    long word = first(index, generations[index]);
    if (words.length != wordsOf(index)) throw wrong(index, "length " + words.length);
    for (int i = 0; i < words.length; i++) {
      word = next(word);
      if (words[i] != word) throw wrong(index, "word " + i + " is " + Long.toHexString(words[i]));
    }
  }

  private void checkTable(int thread) {
    long sum = 0;
    for (int i = thread; i < generations.length; i += threads) sum += generations[i];
    if (sum != replacements[thread]) {
      throw new Harness.Wrong("live set: generations add up to " + sum + ", replacements " + replacements[thread]);
    }
  }

  private Harness.Wrong wrong(int index, String what) {
    return new Harness.Wrong("live object " + index + " generation " + generations[index] + ": " + what);
  }

  private static long first(int index, int generation) {
    return index * 0x9e3779b97f4a7c15L + generation * 0x94d049bb133111ebL | 1;
  }

  private static long next(long word) {
    word ^= word << 13;
    word ^= word >>> 7;
    return word ^ word << 17;
  }
}
