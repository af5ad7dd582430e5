import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Writes a graph of objects as Java does, reads it back and compares the two.
 *
 * Arguments besides the harness's: people=60 in the graph.
 */
final class Serialize implements Harness.Task {
  private static final class Person implements Serializable {
    private static final long serialVersionUID = 1;
    final String name;
    final long born;
    final double[] figures;
    final Map<String, Long> accounts = new HashMap<>();
    Person friend;

    Person(long number) {
      name = "person " + number;
      born = number * 86_400_000L;
      figures = new double[] {number, number / 3.0, -number};
      for (int i = 0; i < 5; i++) accounts.put("account " + (number + i), number * i);
    }

    boolean equals(Person other) {
      return name.equals(other.name) && born == other.born && accounts.equals(other.accounts)
          && figures[1] == other.figures[1] && friend.name.equals(other.friend.name);
    }
  }

  private final Harness harness;
  private final int people;

  public static void main(String[] arguments) {
    Harness.run("Serialize", arguments, Serialize::new);
  }

  Serialize(int thread, Options options, Harness harness) {
    this.harness = harness;
    people = (int) options.number("people", 60);
  }

  @Override
  public void operation(long number) throws IOException, ClassNotFoundException {
    List<Person> written = new ArrayList<>();
    for (int i = 0; i < people; i++) written.add(new Person(number * people + i));
    for (int i = 0; i < people; i++) written.get(i).friend = written.get((i * 7 + 3) % people);
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ObjectOutputStream output = new ObjectOutputStream(bytes)) {
      output.writeObject(written);
    }
    harness.pulse();
    Object read;
    try (ObjectInputStream input = new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray()))) {
      read = input.readObject();
    }
    List<?> found = (List<?>) read;
    if (found.size() != people) throw new Harness.Wrong(found.size() + " people instead of " + people);
    for (int i = 0; i < people; i++) {
      Person person = (Person) found.get(i);
      if (!written.get(i).equals(person)) throw new Harness.Wrong("another person than " + written.get(i).name);
      if (person.friend != found.get((i * 7 + 3) % people)) throw new Harness.Wrong("a friend was read twice");
    }
  }
}
