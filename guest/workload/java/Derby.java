/** The bank on Apache Derby. */
final class Derby {
  public static void main(String[] arguments) {
    System.setProperty("derby.stream.error.file", "/tmp/derby.log");
    System.setProperty("derby.system.home", "/tmp");
    Harness.run("Derby", arguments, (thread, options, harness) ->
        new Bank("jdbc:derby:memory:bank" + thread + ";create=true", options, harness));
  }
}
