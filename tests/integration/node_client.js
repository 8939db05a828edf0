// SPDX-License-Identifier: PostgreSQL
//
// node-postgres as an Express application would use it: a pool, parameters, named statements,
// transactions on a checked-out client, errors, LISTEN, cursors by rows. Prints "ok NAME" a case.
//
//   NODE_PATH=.deps/node_modules node node_client.js PORT
'use strict';

const assert = require('node:assert');
const { Pool, Client } = require('pg');

const config = {
  host: '127.0.0.1', port: Number(process.argv[2]), user: 'app', database: 'app',
  connectionTimeoutMillis: 10000, query_timeout: 10000,
};

const cases = {
  async simple(pool) {
    const r = await pool.query('SELECT 1 AS one, NULL AS none');
    assert.deepStrictEqual(r.rows, [{ one: 1, none: null }]);
  },

  async parameters(pool) {
    const r = await pool.query('SELECT $1::int + $2::int AS sum, $3::text AS t', [2, 3, "O'Neill"]);
    assert.deepStrictEqual(r.rows, [{ sum: 5, t: "O'Neill" }]);
  },

  async named_statements_over_many_connections(pool) {
    const one = (id) => pool.query({ name: 'pick', text: 'SELECT v FROM items WHERE id = $1', values: [id] });
    const got = await Promise.all(Array.from({ length: 60 }, (_, i) => one(i + 1)));
    got.forEach((r, i) => assert.strictEqual(r.rows[0].v, `v${i + 1}`));
  },

  // The write and the read take whatever connection the pool has: the default scope must cover it.
  async read_your_writes_over_the_pool(pool) {
    for (let i = 1; i <= 40; i++) {
      await pool.query('UPDATE items SET n = $1 WHERE id = 21', [i]);
      const r = await Promise.all([1, 2, 3].map(() => pool.query('SELECT n FROM items WHERE id = 21')));
      for (const x of r) assert.strictEqual(x.rows[0].n, i);
    }
  },

  async transaction(pool) {
    const c = await pool.connect();
    try {
      await c.query('BEGIN');
      await c.query('UPDATE items SET n = 4711 WHERE id = 22');
      const inside = await c.query('SELECT n FROM items WHERE id = 22');
      assert.strictEqual(inside.rows[0].n, 4711);
      await c.query('ROLLBACK');
      const after = await c.query('SELECT n FROM items WHERE id = 22');
      assert.notStrictEqual(after.rows[0].n, 4711);
    } finally {
      c.release();
    }
  },

  async errors_leave_the_connection_usable(pool) {
    await assert.rejects(pool.query('SELECT 1/0'), { code: '22012' });
    await assert.rejects(pool.query('SELECT * FROM nowhere'), { code: '42P01' });
    await assert.rejects(pool.query('SELECT $1::int', ['x']), { code: '22P02' });
    assert.strictEqual((await pool.query('SELECT 2 AS two')).rows[0].two, 2);
  },

  async multi_statement(pool) {
    const r = await pool.query('SELECT 1 AS a; SELECT 2 AS b');
    assert.deepStrictEqual(r.map((x) => x.rows), [[{ a: 1 }], [{ b: 2 }]]);
  },

  async large_result(pool) {
    const r = await pool.query('SELECT * FROM big ORDER BY id');
    assert.strictEqual(r.rows.length, 2000);
    assert.strictEqual(r.rows[1999].pad.length, 1024);
  },

  async listen_and_notify() {
    const c = new Client(config);
    await c.connect();
    try {
      await c.query('LISTEN news');
      const heard = new Promise((done) => c.on('notification', done));
      await c.query("NOTIFY news, 'extra'");
      assert.strictEqual((await heard).payload, 'extra');
    } finally {
      await c.end();
    }
  },
};

async function main() {
  let failures = 0;
  for (const [name, fn] of Object.entries(cases)) {
    const pool = new Pool({ ...config, max: 8 });
    try {
      await fn(pool);
      console.log(`ok ${name}`);
    } catch (e) {
      failures++;
      console.log(`FAIL ${name}: ${e.stack}`);
    }
    await pool.end();
  }
  process.exitCode = failures;
}

main();
