import java.util.Arrays;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

/**
 * Packs text and unpacks it again, and compares both text and check sum.
 *
 * Arguments besides the harness's: kb=64 of text, level=6.
 */
final class Compress implements Harness.Task {
  private static final String[] WORDS = {
    "when", "the", "wild", "goose", "godwit", "flies", "from", "Alaska", "to", "New", "Zealand", "without", "a", "rest"
  };

  private final Harness harness;
  private final int bytes;
  private final int level;

  public static void main(String[] arguments) {
    Harness.run("Compress", arguments, Compress::new);
  }

  Compress(int thread, Options options, Harness harness) {
    this.harness = harness;
    bytes = (int) options.number("kb", 64) << 10;
    level = (int) options.number("level", 6);
  }

  @Override
  public void operation(long number) throws DataFormatException {
    byte[] text = text(number);
    harness.pulse();
    byte[] packed = new byte[bytes];
    Deflater deflater = new Deflater(level);
    deflater.setInput(text);
    deflater.finish();
    int length = 0;
    while (!deflater.finished()) {
      length += deflater.deflate(packed, length, Math.min(4096, packed.length - length));
      harness.pulse();
    }
    deflater.end();
    byte[] found = new byte[bytes];
    Inflater inflater = new Inflater();
    inflater.setInput(packed, 0, length);
    int filled = 0;
    while (!inflater.finished() && filled < bytes) {
      filled += inflater.inflate(found, filled, Math.min(16384, bytes - filled));
      harness.pulse();
    }
    inflater.end();
    boolean same = filled == bytes && Arrays.equals(found, text) && checkSum(found) == checkSum(text);
    if (!same) throw new Harness.Wrong("text " + number + " came back changed");
  }

  private byte[] text(long number) {
    byte[] text = new byte[bytes];
    long random = number;
    for (int at = 0; at < bytes; ) {
      random = random * 6364136223846793005L + 1442695040888963407L;
      String word = WORDS[(int) ((random >>> 33) % WORDS.length)];
      for (int i = 0; i < word.length() && at < bytes; i++) text[at++] = (byte) word.charAt(i);
      if (at < bytes) text[at++] = (byte) ((random >>> 20) % 9 == 0 ? '0' + (random >>> 50) % 10 : ' ');
    }
    return text;
  }

  private static long checkSum(byte[] text) {
    CRC32 sum = new CRC32();
    sum.update(text);
    return sum.getValue();
  }
}
