import com.sun.source.util.JavacTask;
import com.sun.source.util.TaskEvent;
import com.sun.source.util.TaskListener;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.URI;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.tools.FileObject;
import javax.tools.ForwardingJavaFileManager;
import javax.tools.ForwardingJavaFileObject;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;

/**
 * Compiles a class that is different each time, loads it, runs it, and compares its result with what it should be.
 *
 * Arguments besides the harness's: methods=6 in the class.
 */
final class Javac implements Harness.Task, TaskListener {
  private static final JavaCompiler COMPILER = ToolProvider.getSystemJavaCompiler();

  private final Harness harness;
  private final int methods;
  private final JavaFileManager files = COMPILER.getStandardFileManager(null, null, null);

  public static void main(String[] arguments) {
    Harness.run("Javac", arguments, Javac::new);
  }

  Javac(int thread, Options options, Harness harness) {
    this.harness = harness;
    methods = (int) options.number("methods", 6);
  }

  @Override
  public void operation(long number) throws ReflectiveOperationException {
    Map<String, ByteArrayOutputStream> classes = new HashMap<>();
    StringBuilder source = new StringBuilder("public class Made {\n  static long x = " + number + "L;\n");
    long expected = number;
    for (int i = 0; i < methods; i++) {
      long factor = (number + i) % 97 + 3;
      source.append("  static void m").append(i).append("(java.util.List<Long> list) {\n    long s = 0;\n")
          .append("    for (Long v : list) s += v * ").append(factor).append("L;\n")
          .append("    if (s > 0) x = x * 31 + s; else x -= ").append(i).append(";\n  }\n");
      // The list holds 1, 2 and 3.
      expected = expected * 31 + 6 * factor;
    }
    source.append("  public static long run() {\n    java.util.List<Long> list = java.util.Arrays.asList(1L, 2L, 3L);\n");
    for (int i = 0; i < methods; i++) source.append("    m").append(i).append("(list);\n");
    source.append("    return x;\n  }\n}\n");
    JavacTask task = (JavacTask) COMPILER.getTask(null, new InMemory(files, classes), null,
        Collections.singletonList("-proc:none"), null, Collections.singletonList(new Source(source.toString())));
    task.addTaskListener(this);
    if (!task.call()) throw new Harness.Wrong("the compiler refused its source");
    Object found = new Loader(classes).loadClass("Made").getMethod("run").invoke(null);
    if (!found.equals(expected)) throw new Harness.Wrong("class " + number + " answers " + found + ", not " + expected);
  }

  /** The compiler calls these in the thread that compiles. */
  @Override
  public void started(TaskEvent event) {
    harness.pulse();
  }

  @Override
  public void finished(TaskEvent event) {
    harness.pulse();
  }

  private static final class Source extends SimpleJavaFileObject {
    private final String text;

    Source(String text) {
      super(URI.create("string:///Made.java"), Kind.SOURCE);
      this.text = text;
    }

    @Override
    public CharSequence getCharContent(boolean ignoreErrors) {
      return text;
    }
  }

  /** Reads the platform's classes where they are, keeps what it writes; gets on with every question it is asked. */
  private final class InMemory extends ForwardingJavaFileManager<JavaFileManager> {
    private final Map<String, ByteArrayOutputStream> classes;

    InMemory(JavaFileManager inner, Map<String, ByteArrayOutputStream> classes) {
      super(inner);
      this.classes = classes;
    }

    @Override
    public boolean hasLocation(Location location) {
      harness.pulse();
      return super.hasLocation(location);
    }

    @Override
    public String inferBinaryName(Location location, JavaFileObject file) {
      harness.pulse();
      return super.inferBinaryName(location, file instanceof Noticed ? ((Noticed) file).inner() : file);
    }

    @Override
    public Iterable<JavaFileObject> list(Location location, String packageName, Set<JavaFileObject.Kind> kinds, boolean recurse)
        throws IOException {
      List<JavaFileObject> found = new ArrayList<>();
      for (JavaFileObject file : super.list(location, packageName, kinds, recurse)) found.add(new Noticed(file));
      harness.pulse();
      return found;
    }

    @Override
    public JavaFileObject getJavaFileForOutput(Location location, String name, JavaFileObject.Kind kind, FileObject near) {
      return new SimpleJavaFileObject(URI.create("string:///" + name + ".class"), kind) {
        @Override
        public OutputStream openOutputStream() throws IOException {
          ByteArrayOutputStream bytes = new ByteArrayOutputStream();
          classes.put(name, bytes);
          return bytes;
        }
      };
    }
  }

  /** A class of the platform, which is read when the compiler comes to need it. */
  private final class Noticed extends ForwardingJavaFileObject<JavaFileObject> {
    Noticed(JavaFileObject inner) {
      super(inner);
    }

    JavaFileObject inner() {
      return fileObject;
    }

    @Override
    public InputStream openInputStream() throws IOException {
      harness.pulse();
      return super.openInputStream();
    }
  }

  private static final class Loader extends ClassLoader {
    private final Map<String, ByteArrayOutputStream> classes;

    Loader(Map<String, ByteArrayOutputStream> classes) {
      super(Javac.class.getClassLoader());
      this.classes = classes;
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
      ByteArrayOutputStream found = classes.get(name);
      if (found == null) throw new ClassNotFoundException(name);
      byte[] bytes = found.toByteArray();
      return defineClass(name, bytes, 0, bytes.length);
    }
  }
}
