/** The bank on H2. */
final class H2 {
  public static void main(String[] arguments) {
    Harness.run("H2", arguments, (thread, options, harness) ->
        new Bank("jdbc:h2:mem:bank" + thread, options, harness));
  }
}
