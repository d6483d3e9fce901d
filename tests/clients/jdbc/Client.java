import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TimeZone;
import java.util.logging.LogManager;

/**
 * Does over JDBC what it reads from standard input, one command a line with its parts between tabs, and answers each with a line of JSON:
 * {"columns": [[name, type]…], "rows": [[…]…]}, {"updated": n} or {"error": text}.
 *
 * <pre>Client.java URL TOKEN [USER]</pre>
 */
public class Client {
  public static void main(String[] args) throws Exception {
    // The driver logs each failure at length, and it is thrown all the same.
    LogManager.getLogManager().reset();
    // Times without a zone are read in the default one.
    TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
    Properties properties = new Properties();
    if (args.length > 2) {
      properties.put("user", args[2]);
      properties.put("password", args[1]);
    } else {
      properties.put("token", args[1]);
    }
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    try (Connection connection = DriverManager.getConnection(args[0], properties)) {
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        Map<String, Object> answer = new LinkedHashMap<>();
        try {
          run(connection, line.split("\t", -1), answer);
        } catch (SQLException | RuntimeException e) {
          answer.clear();
          answer.put("error", causes(e));
        }
        System.out.println(json(answer));
      }
    } catch (SQLException e) {
      System.out.println(json(Map.of("error", causes(e))));
    }
    // Not every thread of the driver is a daemon.
    System.exit(0);
  }

  static void run(Connection connection, String[] parts, Map<String, Object> answer) throws SQLException {
    DatabaseMetaData meta = connection.getMetaData();
    switch (parts[0]) {
      case "query":
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(parts[1])) {
          read(rows, answer);
        }
        break;
      case "update":
        try (Statement statement = connection.createStatement()) {
          answer.put("updated", statement.executeUpdate(parts[1]));
        }
        break;
      case "prepared": // SQL, then for each run its values
        try (PreparedStatement statement = connection.prepareStatement(parts[1])) {
          List<Object> runs = new ArrayList<>();
          int parameters = statement.getParameterMetaData().getParameterCount();
          for (int at = 2; at + parameters <= parts.length; at += parameters) {
            for (int i = 0; i < parameters; i++) {
              bind(statement, i + 1, parts[at + i]);
            }
            try (ResultSet rows = statement.executeQuery()) {
              Map<String, Object> run = new LinkedHashMap<>();
              read(rows, run);
              runs.add(run.get("rows"));
            }
          }
          answer.put("parameters", parameters);
          answer.put("rows", runs);
        }
        break;
      case "first": // the first row of many, then away
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(parts[1])) {
          rows.next();
          answer.put("rows", List.of(List.of(rows.getObject(1))));
          statement.cancel();
        }
        break;
      case "catalogs": read(meta.getCatalogs(), answer); break;
      case "schemas": read(meta.getSchemas(), answer); break;
      case "tableTypes": read(meta.getTableTypes(), answer); break;
      case "tables": read(meta.getTables(null, or(parts[1]), parts[2], parts[3].isEmpty() ? null : parts[3].split(",")), answer); break;
      case "columns": read(meta.getColumns(null, null, parts[1], parts[2]), answer); break;
      case "typeInfo": read(meta.getTypeInfo(), answer); break;
      case "primaryKeys": read(meta.getPrimaryKeys(null, null, parts[1]), answer); break;
      case "exportedKeys": read(meta.getExportedKeys(null, null, parts[1]), answer); break;
      case "importedKeys": read(meta.getImportedKeys(null, null, parts[1]), answer); break;
      case "crossReference": read(meta.getCrossReference(null, null, parts[1], null, null, parts[2]), answer); break;
      case "about":
        answer.put("rows", List.of(List.of(meta.getDatabaseProductName(), meta.getDatabaseProductVersion(), meta.isReadOnly(),
            meta.getIdentifierQuoteString(), meta.getNumericFunctions(), meta.getSQLKeywords(), meta.supportsTransactions())));
        break;
      default: throw new IllegalArgumentException(parts[0]);
    }
  }

  static String or(String text) {
    return text.isEmpty() ? null : text;
  }

  static void bind(PreparedStatement statement, int index, String value) throws SQLException {
    if (value.startsWith("#")) {
      statement.setLong(index, Long.parseLong(value.substring(1)));
    } else {
      statement.setString(index, value);
    }
  }

  static void read(ResultSet result, Map<String, Object> answer) throws SQLException {
    ResultSetMetaData meta = result.getMetaData();
    List<Object> columns = new ArrayList<>(), rows = new ArrayList<>();
    for (int i = 1; i <= meta.getColumnCount(); i++) {
      columns.add(List.of(meta.getColumnLabel(i), meta.getColumnTypeName(i)));
    }
    while (result.next()) {
      List<Object> row = new ArrayList<>();
      for (int i = 1; i <= meta.getColumnCount(); i++) {
        row.add(kept(result.getObject(i)));
      }
      rows.add(row);
    }
    answer.put("columns", columns);
    answer.put("rows", rows);
  }

  /** A value that can be read when its result is closed. */
  static Object kept(Object value) throws SQLException {
    return value instanceof Array ? Arrays.asList((Object[]) ((Array) value).getArray()) : value;
  }

  static String causes(Throwable error) {
    StringBuilder text = new StringBuilder();
    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
      text.append(cause.getMessage()).append(" / ");
    }
    return text.toString();
  }

  static String json(Object value) throws SQLException {
    if (value == null || value instanceof Boolean || value instanceof Long || value instanceof Integer || value instanceof Short) {
      return String.valueOf(value);
    }
    if (value instanceof Double || value instanceof Float || value instanceof BigDecimal) {
      double number = ((Number) value).doubleValue();
      return Double.isFinite(number) ? String.valueOf(number) : quoted(String.valueOf(number));
    }
    if (value instanceof Map) {
      List<String> members = new ArrayList<>();
      for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
        members.add(quoted(String.valueOf(entry.getKey())) + ":" + json(entry.getValue()));
      }
      return "{" + String.join(",", members) + "}";
    }
    if (value instanceof Iterable) {
      List<String> items = new ArrayList<>();
      for (Object item : (Iterable<?>) value) {
        items.add(json(item));
      }
      return "[" + String.join(",", items) + "]";
    }
    if (value instanceof Object[]) {
      return json(Arrays.asList((Object[]) value));
    }
    if (value instanceof Array) {
      return json(((Array) value).getArray());
    }
    return quoted(value.toString());
  }

  static String quoted(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') {
        out.append('\\').append(c);
      } else if (c < ' ') {
        out.append(String.format("\\u%04x", (int) c));
      } else {
        out.append(c);
      }
    }
    return out.append('"').toString();
  }
}
