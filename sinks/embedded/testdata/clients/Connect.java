import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Instant;
import java.time.LocalDate;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Properties;

/** Uses the embedded ClickHouse as the JDBC driver does. Arguments: address, database, file with the table. */
public final class Connect {
    static final Instant AT = Instant.parse("2026-03-04T05:06:07.089Z");

    public static void main(String[] args) throws Exception {
        String url = "jdbc:clickhouse://" + args[0] + "/" + args[1];
        for (String compress : List.of("true", "false")) {
            Properties properties = new Properties();
            properties.setProperty("compress", compress);
            try (Connection connection = DriverManager.getConnection(url, properties)) {
                check(connection.isValid(10), true);
                try (Statement statement = connection.createStatement()) {
                    statement.execute(Files.readString(Path.of(args[2])));
                }
                insert(connection);
                select(connection);
                metadata(connection, args[1]);
                refused(connection, 60, "SELECT * FROM no_such_table");
                refused(connection, 47, "SELECT nope");
                large(connection);
                cancel(connection);
            }
        }
        System.out.println("OK");
    }

    static void insert(Connection connection) throws SQLException {
        String sql = "INSERT INTO client_rows (id, phase, category, note, flags, orders, balance, shift, risk, open, at, last_order, day, tags, net)"
            + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        try (PreparedStatement row = connection.prepareStatement(sql)) {
            for (int i = 0; i < 2; i++) {
                row.setString(1, i == 0 ? "ä'\n\t\\" : "");
                row.setString(2, "lead");
                row.setString(3, i == 0 ? null : "shoes");
                row.setString(4, i == 0 ? null : "x");
                row.setInt(5, 255);
                row.setLong(6, 4294967295L);
                row.setLong(7, Long.MIN_VALUE);
                if (i == 0) {
                    row.setNull(8, Types.BIGINT);
                } else {
                    row.setLong(8, -7);
                }
                row.setDouble(9, 0.5);
                row.setBoolean(10, true);
                row.setObject(11, AT.atZone(java.time.ZoneOffset.UTC));
                row.setObject(12, i == 0 ? null : AT.atZone(java.time.ZoneOffset.UTC));
                row.setObject(13, LocalDate.of(2026, 3, 4));
                row.setArray(14, connection.createArrayOf("String", new Object[] {"a", "b'"}));
                row.setBigDecimal(15, new BigDecimal("-1.25"));
                row.addBatch();
            }
            check(row.executeBatch().length, 2);
        }
    }

    static void select(Connection connection) throws SQLException {
        String sql = "SELECT * FROM client_rows WHERE orders = ? ORDER BY id DESC";
        try (PreparedStatement query = connection.prepareStatement(sql)) {
            query.setLong(1, 4294967295L);
            try (ResultSet rows = query.executeQuery()) {
                check(rows.next(), true);
                check(rows.getString("id"), "ä'\n\t\\");
                check(rows.getString("category"), null);
                check(rows.getString("note"), null);
                check(rows.getInt("flags"), 255);
                check(rows.getLong("orders"), 4294967295L);
                check(rows.getLong("balance"), Long.MIN_VALUE);
                check(rows.getLong("shift") == 0 && rows.wasNull(), true);
                check(rows.getDouble("risk"), 0.5);
                check(rows.getBoolean("open"), true);
                check(rows.getTimestamp("at").toInstant(), AT);
                check(rows.getObject("last_order"), null);
                check(rows.getDate("day").toLocalDate(), LocalDate.of(2026, 3, 4));
                check(Arrays.asList((Object[]) rows.getArray("tags").getArray()), List.of("a", "b'"));
                check(rows.getBigDecimal("net"), new BigDecimal("-1.25"));
                check(rows.next(), true);
                check(rows.getString("category"), "shoes");
                check(rows.getTimestamp("last_order").toInstant(), AT);
                check(rows.getLong("shift"), -7L);
                check(rows.next(), false);
            }
            query.setLong(1, 1);
            try (ResultSet rows = query.executeQuery()) {
                check(rows.next(), false);
                check(rows.getMetaData().getColumnName(1), "id");
            }
        }
    }

    static void metadata(Connection connection, String database) throws SQLException {
        check(connection.getMetaData().getDatabaseMajorVersion() >= 26, true);
        int columns = 0;
        try (ResultSet rows = connection.getMetaData().getColumns(null, database, "client_rows", null)) {
            while (rows.next()) {
                // The classic driver returns the table of every database.
                if (database.equals(rows.getString("TABLE_SCHEM")) || database.equals(rows.getString("TABLE_CAT"))) {
                    columns++;
                }
            }
        }
        check(columns, 19);
    }

    static void refused(Connection connection, int code, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            throw new AssertionError("no error for " + sql);
        } catch (SQLException error) {
            check(error.getErrorCode() + " in " + error.getMessage().contains("DB::Exception"), code + " in true");
        }
    }

    static void large(Connection connection) throws SQLException {
        long sum = 0;
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT number, toString(number) FROM numbers(300000)")) {
            while (rows.next()) {
                sum += rows.getLong(1) + rows.getString(2).length();
            }
        }
        check(sum, 44999850000L + 1688890L);
    }

    static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement(); Statement other = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    while (running(other) == 0) {
                        Thread.sleep(20);
                    }
                    statement.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            try (ResultSet rows = statement.executeQuery("SELECT count(sipHash64(number)), 'jdbc cancel' FROM numbers(100000000000)")) {
                throw new AssertionError("a cancelled statement has a result");
            } catch (SQLException expected) {
                canceller.join();
            }
            while (running(other) > 0) {
                Thread.sleep(20);
            }
        }
    }

    static int running(Statement statement) throws SQLException {
        String sql = "SELECT count() FROM system.processes WHERE query LIKE '%jdbc cancel%' AND query NOT LIKE '%processes%'";
        try (ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getInt(1);
        }
    }

    static void check(Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError(got + " instead of " + want);
        }
    }
}
