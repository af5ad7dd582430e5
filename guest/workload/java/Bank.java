import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/**
 * Money moves between the accounts of a database in memory. An operation is one transaction; what the two accounts must
 * hold is known beside the database, and now and then all of them are added up by it.
 *
 * Arguments besides the harness's: accounts=2000, audit=50 (operations between two sums). Each thread has a database
 * of its own.
 */
class Bank implements Harness.Task {
  private static final long START = 1000;

  private final Connection connection;
  private final PreparedStatement read;
  private final PreparedStatement add;
  private final PreparedStatement note;
  private final PreparedStatement forget;
  private final PreparedStatement total;
  private final Harness harness;
  private final long[] expected;
  private final long audit;
  private long random = 1;

  Bank(String url, Options options, Harness harness) throws SQLException {
    this.harness = harness;
    audit = options.number("audit", 50);
    int accounts = (int) options.number("accounts", 2000);
    expected = new long[accounts];
    connection = DriverManager.getConnection(url);
    connection.setAutoCommit(false);
    try (Statement statement = connection.createStatement()) {
      statement.execute("CREATE TABLE account (id INT PRIMARY KEY, owner VARCHAR(40), balance BIGINT)");
      statement.execute("CREATE TABLE entry (id BIGINT PRIMARY KEY, account INT, amount BIGINT, words VARCHAR(100))");
    }
    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO account VALUES (?, ?, ?)")) {
      for (int i = 0; i < accounts; i++) {
        expected[i] = START;
        insert.setInt(1, i);
        insert.setString(2, "owner of account " + i);
        insert.setLong(3, START);
        insert.executeUpdate();
      }
    }
    connection.commit();
    read = connection.prepareStatement("SELECT owner, balance FROM account WHERE id = ?");
    add = connection.prepareStatement("UPDATE account SET balance = balance + ? WHERE id = ?");
    note = connection.prepareStatement("INSERT INTO entry VALUES (?, ?, ?, ?)");
    forget = connection.prepareStatement("DELETE FROM entry WHERE id = ?");
    total = connection.prepareStatement("SELECT COUNT(*), SUM(balance) FROM account");
  }

  @Override
  public void operation(long number) throws SQLException {
    int from = next(expected.length);
    int to = next(expected.length);
    long amount = next(100);
    move(number * 2, from, -amount);
    move(number * 2 + 1, to, amount);
    connection.commit();
    checkAccount(from);
    checkAccount(to);
    if (number % audit == 0) checkAll();
    connection.commit();
  }

  private void move(long id, int account, long amount) throws SQLException {
    expected[account] += amount;
    add.setLong(1, amount);
    add.setInt(2, account);
    if (add.executeUpdate() != 1) throw new Harness.Wrong("account " + account + " was not updated");
    note.setLong(1, id);
    note.setInt(2, account);
    note.setLong(3, amount);
    note.setString(4, "moved " + amount + " by operation " + id);
    note.executeUpdate();
    // The last thousand entries stay.
    if (id < 1000) return;
    forget.setLong(1, id - 1000);
    if (forget.executeUpdate() != 1) throw new Harness.Wrong("entry " + (id - 1000) + " is not there");
    harness.pulse();
  }

  private void checkAccount(int account) throws SQLException {
    read.setInt(1, account);
    try (ResultSet rows = read.executeQuery()) {
      if (!rows.next()) throw new Harness.Wrong("account " + account + " is not there");
      boolean right = rows.getString(1).equals("owner of account " + account) && rows.getLong(2) == expected[account];
      if (!right) throw new Harness.Wrong("account " + account + " holds " + rows.getLong(2) + ", not " + expected[account]);
    }
  }

  private void checkAll() throws SQLException {
    harness.pulse();
    try (ResultSet rows = total.executeQuery()) {
      rows.next();
      boolean right = rows.getLong(1) == expected.length && rows.getLong(2) == expected.length * START;
      if (!right) throw new Harness.Wrong(rows.getLong(1) + " accounts hold " + rows.getLong(2));
    }
    harness.pulse();
  }

  private int next(int bound) {
    random = random * 6364136223846793005L + 1442695040888963407L;
    return (int) ((random >>> 33) % bound);
  }
}
