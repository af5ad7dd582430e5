import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import org.godwit.assist.GodwitAssist;

/** The Java library under the conformance test. Commands: head of client.c. */
public final class Client implements GodwitAssist.Handler {
    private final ByteBuffer[] buffers = new ByteBuffer[8];
    private final GodwitAssist.Area[] areas = new GodwitAssist.Area[8];
    private volatile String[] onPrepare = {"ok"};

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    @Override
    public void begin() {
        say("begin");
    }

    @Override
    public void prepare(long deadlineMs) throws Exception {
        say("prepare " + deadlineMs);
        String[] words = onPrepare;
        if (words[0].equals("fail")) throw new IllegalStateException("cannot stop");
        if (words[0].equals("sleep")) Thread.sleep(Long.parseLong(words[1]));
        if (words[0].equals("drop"))
            areas[Integer.parseInt(words[1])].drop(Integer.parseInt(words[2]), Integer.parseInt(words[3]));
    }

    @Override
    public void resume() {
        say("resume");
    }

    @Override
    public void abort() {
        say("abort");
    }

    @Override
    public void trouble(String text) {
        say("trouble " + text);
    }

    private void obey(GodwitAssist assist, String[] words) {
        int i = words.length > 1 && words[1].matches("\\d") ? Integer.parseInt(words[1]) : 0;
        switch (words[0]) {
            case "area":
                buffers[i] = ByteBuffer.allocateDirect(Integer.parseInt(words[2]));
                for (int at = 0; at < buffers[i].capacity(); at++) buffers[i].put(at, (byte) (i + 1));
                areas[i] = assist.area(buffers[i]);
                say("area " + i + " 0x" + Long.toHexString(areas[i].address()) + " " + areas[i].length());
                break;
            case "drop":
                areas[i].drop(Integer.parseInt(words[2]), Integer.parseInt(words[3]));
                say("done");
                break;
            case "drop-all":
                assist.dropAll();
                say("done");
                break;
            case "zeroes":
                int zeroes = 0;
                for (int at = 0; at < buffers[i].capacity(); at++) if (buffers[i].get(at) == 0) zeroes++;
                say("zeroes " + i + " " + zeroes);
                break;
            case "on-prepare":
                onPrepare = java.util.Arrays.copyOfRange(words, 1, words.length);
                say("done");
                break;
            default:
                break;
        }
    }

    public static void main(String[] arguments) throws Exception {
        Client client = new Client();
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        try (GodwitAssist assist = new GodwitAssist("conformance", client)) {
            for (String line = commands.readLine(); line != null && !line.equals("quit"); line = commands.readLine())
                client.obey(assist, line.split(" "));
        }
    }
}
