import java.util.HashMap;
import java.util.Map;

/** Arguments of the form name=value. */
final class Options {
  private final Map<String, String> values = new HashMap<>();

  Options(String[] arguments) {
    for (String argument : arguments) {
      int at = argument.indexOf('=');
      if (at < 0) throw new IllegalArgumentException("not name=value: " + argument);
      values.put(argument.substring(0, at), argument.substring(at + 1));
    }
  }

  long number(String name, long otherwise) {
    String value = values.get(name);
    return value == null ? otherwise : Long.parseLong(value);
  }

  String text(String name, String otherwise) {
    return values.getOrDefault(name, otherwise);
  }
}
