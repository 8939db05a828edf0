// SPDX-License-Identifier: PostgreSQL
//
// What an application of many tenants does with pgjdbc: setSchema() in a transaction, now and then rolled back or
// failed inside a savepoint of the driver's. The driver sends BEGIN, its own SAVEPOINT and the SET in one batch.
// One of them has a level of its own, which the driver sets by SESSION CHARACTERISTICS and asks for by SHOW.
//
//   java Tenants.java HOST:PORT     "wrong=N seen=N"; the connections stay until standard input ends
import java.sql.*;
import java.util.*;

class Tenants {
    static String look(Connection c) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(
                "SELECT who, current_setting('transaction_isolation') = 'repeatable read', pg_current_xact_id() FROM tenant")) {
            r.next();
            return r.getBoolean(2) == (c.getTransactionIsolation() == Connection.TRANSACTION_REPEATABLE_READ) ? r.getString(1) : "";
        }
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + args[0] + "/app?user=app&autosave=";
        Random random = new Random(20261128);
        String[] schemas = {"tenant_a", "tenant_b", "tenant_c", "tenant_d"}, now = schemas.clone();
        Connection[] all = new Connection[schemas.length];
        for (int i = 0; i < all.length; i++) {
            all[i] = DriverManager.getConnection(url + (i % 2 == 0 ? "always" : "never"));
            if (i == 1)
                all[i].setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            all[i].setAutoCommit(false);
            all[i].setSchema(now[i]);
            all[i].commit();
        }
        int wrong = 0, seen = 0;
        for (int turn = 0; turn < 400; turn++) {
            int i = random.nextInt(all.length);
            Connection c = all[i];
            String next = schemas[random.nextInt(schemas.length)];
            boolean fails = i % 2 == 0 && random.nextInt(3) == 0, commits = random.nextInt(3) > 0;
            c.setSchema(next);
            if (fails) {
                try (Statement s = c.createStatement()) {
                    s.execute("SELECT 1/0");
                } catch (SQLException expected) {
                }
            }
            seen++;
            wrong += look(c).equals(next) ? 0 : 1;
            if (commits) {
                c.commit();
                now[i] = next;
            } else {
                c.rollback();
            }
            c.setAutoCommit(true);
            seen++;
            wrong += look(c).equals(now[i]) ? 0 : 1;
            c.setAutoCommit(false);
        }
        System.out.println("wrong=" + wrong + " seen=" + seen);
        while (System.in.read() >= 0) {
        }
    }
}
