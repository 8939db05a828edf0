// SPDX-License-Identifier: PostgreSQL
//
// Writes through the router TIDEMARK_A and reads through TIDEMARK_B (both host:port), over pooled connections, without and with the token.
// The last line is "stale_without=N stale_with=N reads=N". pgjdbc; the recipe is the class TidemarkToken below.
//
//     java -cp /usr/share/java/postgresql.jar ReadYourWrites.java

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import javax.sql.DataSource;
import org.postgresql.PGConnection;

public class ReadYourWrites {
	static final int KEY = 16;
	static final int ROUNDS = Integer.parseInt(setting("ROUNDS", "15"));

	static String setting(String name, String otherwise) {
		String value = System.getenv(name);
		return value != null ? value : otherwise;
	}

	// The driver's own pool, deprecated and good enough for an example; HikariCP takes the same URL.
	@SuppressWarnings("deprecation")
	static DataSource poolOf(String router, int size) {
		var pool = new org.postgresql.ds.PGPoolingDataSource();
		pool.setUrl("jdbc:postgresql://" + router + "/" + setting("PGDATABASE", "app") + "?" + TidemarkToken.URL_OPTIONS);
		pool.setUser(setting("PGUSER", "app"));
		pool.setInitialConnections(size);
		pool.setMaxConnections(size);
		return pool;
	}

	static void save(DataSource pool, TidemarkToken token, int n) throws SQLException {
		token.write(pool, connection -> {
			try (PreparedStatement s = connection.prepareStatement("UPDATE items SET n = ? WHERE id = ?")) {
				s.setInt(1, n);
				s.setInt(2, KEY);
				return s.executeUpdate();
			}
		});
	}

	static int load(DataSource pool, TidemarkToken token) throws SQLException {
		return token.read(pool, connection -> {
			try (PreparedStatement s = connection.prepareStatement("SELECT n FROM items WHERE id = ?")) {
				s.setInt(1, KEY);
				ResultSet r = s.executeQuery();
				r.next();
				return r.getInt(1);
			}
		});
	}

	// Each round is two requests, which have nothing in common but the token that the first one's answer had.
	static int countStale(DataSource writes, DataSource reads, int first, boolean carried) throws SQLException {
		int stale = 0;
		String text = "";
		for (int n = first; n < first + ROUNDS; n++) {
			TidemarkToken request = new TidemarkToken(text);
			save(writes, request, n);
			text = carried ? request.text() : "";
			request = new TidemarkToken(text);
			stale += load(reads, request) != n ? 1 : 0;
			text = carried ? request.text() : "";
		}
		return stale;
	}

	public static void main(String[] args) throws SQLException {
		DataSource writes = poolOf(System.getenv("TIDEMARK_A"), 1);
		DataSource reads = poolOf(System.getenv("TIDEMARK_B"), 2);
		int without = countStale(writes, reads, 1000, false);
		int with = countStale(writes, reads, 2000, true);
		System.out.println("stale_without=" + without + " stale_with=" + with + " reads=" + ROUNDS);
	}
}

/**
 * What one user has seen: make one for each request, or keep one for each user. Copy this class into your application;
 * docs/recipes/jdbc.md says how it works and where it ends.
 */
class TidemarkToken {
	/** Of the URL: "-c tidemark.report=on", URL-encoded. */
	static final String URL_OPTIONS = "options=-c%20tidemark.report=on";
	/** The token of one who does not know what he has seen. */
	static final String PRIMARY = "primary";

	interface Work<T> {
		T run(Connection connection) throws SQLException;
	}

	private String text;

	TidemarkToken(String text) {
		this.text = text;
	}

	synchronized String text() {
		return text;
	}

	/** One transaction, on the primary. */
	<T> T write(DataSource pool, Work<T> work) throws SQLException {
		try (Connection connection = pool.getConnection()) {
			String brought = bring(connection);
			T result;
			connection.setAutoCommit(false);
			try {
				result = work.run(connection);
				connection.commit();
			} catch (SQLException | RuntimeException e) {
				giveUp(connection, brought);
				throw e;
			}
			// Tidemark has sent it just before COMMIT's ReadyForQuery; the driver keeps it.
			take(connection.unwrap(PGConnection.class).getParameterStatus("tidemark.token"), brought);
			connection.setAutoCommit(true);
			return result;
		}
	}

	/** Autocommit: every SELECT may go to a replica. */
	<T> T read(DataSource pool, Work<T> work) throws SQLException {
		try (Connection connection = pool.getConnection()) {
			String brought = bring(connection);
			T result = work.run(connection);
			try (Statement s = connection.createStatement(); ResultSet r = s.executeQuery("SHOW tidemark.token")) {
				r.next();
				take(r.getString(1), brought);
			}
			return result;
		}
	}

	private String bring(Connection connection) throws SQLException {
		String brought = text();
		connection.setAutoCommit(true);
		if (!brought.isEmpty()) {
			try (Statement s = connection.createStatement()) {
				s.execute("SET tidemark.read_after = '" + brought.replace("'", "''") + "'");
			}
		}
		return brought;
	}

	private void giveUp(Connection connection, String brought) {
		try {
			connection.rollback();
			connection.setAutoCommit(true);
		} catch (SQLException e) {
			take(PRIMARY, brought); // lost, perhaps in the middle of COMMIT: who knows what became of it
		}
	}

	// The connection's token covers what was brought to it. What another thread took meanwhile, it may not.
	private synchronized void take(String taken, String brought) {
		String token = taken == null || taken.isEmpty() ? PRIMARY : taken;
		text = text.equals(brought) ? token : merge(text, token);
	}

	/** One token that asks for all that these ask for. Tokens are opaque, so it is a list, each text once. */
	static String merge(String... texts) {
		Set<String> parts = new LinkedHashSet<>();
		for (String text : texts)
			parts.addAll(List.of(text.split(",")));
		parts.remove("");
		return parts.contains(PRIMARY) || parts.size() > 8 ? PRIMARY : String.join(",", parts);
	}
}
