// SPDX-License-Identifier: PostgreSQL
//
// node-postgres with the package, in all the forms an application calls it. Prints "ok NAME" a case.
//
//   NODE_PATH=.deps/node_modules node js_client.js PORT
'use strict';

const assert = require('node:assert');
const path = require('node:path');
const { Pool, Client } = require('pg');
const Cursor = require('pg-cursor');
const { wrapPool, wrapClient, session } = require(path.join(__dirname, '..', '..', 'js'));

const config = {
  host: '127.0.0.1', port: Number(process.argv[2]), user: 'app', database: 'app',
  connectionTimeoutMillis: 10000, query_timeout: 10000,
};
const READ = 'SELECT n FROM items WHERE id = $1';
const WRITE = 'UPDATE items SET n = n + 1 WHERE id = $1 RETURNING n';

let warnings = 0;
process.on('warning', (w) => { if (w.name === 'DeprecationWarning') warnings++; });

const cases = {
  async every_answer_brings_one_exact_token(pool) {
    await session.run('', async () => {
      const s = session.current();
      await pool.query(WRITE, [51]);
      const written = s.token;
      for (const text of [written, 'primary', 'garbage', '']) {
        s.merge(text);
        await pool.query(READ, [51]);
        assert.ok(!s.owes);
        assert.match(s.token, /^E[\w-]{62}$/, 'what the router reports replaces what it was told');
      }
    });
  },

  async a_write_of_unknown_position_is_settled(pool) {
    await session.run('', async () => {
      const s = session.current();
      // Too long to be looked at.
      await pool.query(`UPDATE items SET n = n + 1 WHERE id = 51 /* ${'x'.repeat(70000)} */`);
      assert.ok(s.owes, 'the router cannot ask for the position there');
      assert.strictEqual(s.token, 'primary');
      await s.settle({ timeout: 3000 });
      assert.ok(!s.owes);
      assert.match(s.token, /^E[\w-]{62}$/);
    });
  },

  async the_token_of_one_connection_serves_another(pool) {
    for (let i = 0; i < 30; i++) {
      let text;
      let n;
      await session.run('', async () => {
        n = (await pool.query(WRITE, [52])).rows[0].n;
        text = session.current().token;
      });
      await Promise.all([1, 2, 3, 4].map(() => session.run(text, async () => {
        assert.strictEqual((await pool.query(READ, [52])).rows[0].n, n);
      })));
    }
  },

  async reads_in_parallel_then_one_after_them(pool) {
    await session.run('', async () => {
      for (let i = 0; i < 20; i++) {
        const n = (await pool.query(WRITE, [53])).rows[0].n;
        const all = await Promise.all([1, 2, 3, 4].map(() => pool.query(READ, [53])));
        all.push(await pool.query(READ, [53]));
        for (const r of all) assert.strictEqual(r.rows[0].n, n);
      }
    });
  },

  async callbacks_keep_their_session(pool) {
    const one = (id) => new Promise((resolve, reject) => {
      session.run('', () => {
        const mine = session.current();
        pool.query(WRITE, [id], (error) => {
          if (error) return reject(error);
          try {
            assert.strictEqual(session.current(), mine);
            assert.notStrictEqual(mine.token, '');
            return resolve();
          } catch (e) {
            return reject(e);
          }
        });
      });
    });
    await Promise.all(Array.from({ length: 20 }, (_, i) => one(54 + (i % 3))));
  },

  async transactions_errors_and_savepoints(pool) {
    await session.run('garbage', async () => {
      const c = await pool.connect();
      await c.query('BEGIN');
      await c.query(WRITE, [55]);
      await c.query('SAVEPOINT a');
      await assert.rejects(c.query('SELECT 1/0'), { code: '22012' });
      await assert.rejects(c.query('SELECT 1'), { code: '25P02' });
      await c.query('ROLLBACK TO a');
      session.current().merge('primary');
      await c.query(READ, [55]);
      await c.query('COMMIT');
      await assert.rejects(c.query('SELECT * FROM nowhere'), { code: '42P01' });
      await c.query(READ, [55]);
      c.release();
      await session.current().settle({ timeout: 3000 });
      assert.notStrictEqual(session.current().token, '');
    });
  },

  async forged_and_primary_tokens_never_fail(pool) {
    const bad = ['primary', 'x', 'A'.repeat(296), 'EAEA', Array(8).fill('B'.repeat(296)).join(','), "'; DROP TABLE items"];
    for (const text of bad) await session.run(text, () => pool.query(READ, [56]));
  },

  async cursors_and_named_statements(pool) {
    await session.run('primary', async () => {
      const c = await pool.connect();
      const cursor = c.query(new Cursor('SELECT g FROM generate_series(1, 250) g'));
      let got = 0;
      for (;;) {
        const rows = await cursor.read(100);
        if (rows.length === 0) break;
        got += rows.length;
      }
      assert.strictEqual(got, 250);
      const early = c.query(new Cursor('SELECT * FROM big'));
      await early.read(5);
      await early.close();
      for (let i = 0; i < 3; i++) await c.query({ name: 'pick', text: READ, values: [57] });
      c.release();
      const r = await pool.query({ text: 'SELECT id, n FROM items WHERE id < 4 ORDER BY id', rowMode: 'array' });
      assert.strictEqual(r.rows.length, 3);
    });
  },

  async named_sessions_and_discard_all(pool) {
    await session.run('primary', async () => {
      const c = await pool.connect();
      await c.query("SET tidemark.session = 'js-1'");
      const n = (await c.query(WRITE, [58])).rows[0].n;
      await c.query('DISCARD ALL');
      assert.strictEqual((await c.query(READ, [58])).rows[0].n, n);
      assert.strictEqual((await c.query('SHOW tidemark.report')).rows[0]['tidemark.report'], 'on');
      c.release();
    });
  },

  async names_of_requests(pool) {
    const nameOf = async (c) => (await c.query('SHOW tidemark.session')).rows[0]['tidemark.session'];
    const as = (name, fn) => session.run('', fn, { name });
    const names = ['js-2', "o'b\\r\"''", 'Zoë', '', 'js-2', 'x'.repeat(127)];
    const one = wrapPool(new Pool({ ...config, max: 1 }));
    for (const name of names) assert.strictEqual(await as(name, () => nameOf(one)), name);
    assert.match(await as('x'.repeat(128), () => nameOf(one)), /^[\w-]{43}$/);
    assert.strictEqual(await nameOf(one), '');
    const c = await one.connect();
    const pick = { name: 'pick', text: READ, values: [64] };
    for (const name of names) {
      const n = await as(name, async () => {
        await c.query(pick);
        return (await c.query({ name: 'raise', text: WRITE, values: [64] })).rows[0].n;
      });
      assert.strictEqual((await as(name, () => c.query(pick))).rows[0].n, n);
    }
    // In a transaction the name may change; in a failed one it cannot, and behind it it does.
    await as('tx-1', () => c.query('BEGIN'));
    await as('tx-2', async () => {
      await c.query(WRITE, [64]);
      assert.strictEqual(await nameOf(c), 'tx-2');
      await assert.rejects(c.query('SELECT 1/0'), { code: '22012' });
    });
    await as('tx-3', async () => {
      await assert.rejects(c.query('SELECT 1'), { code: '25P02' });
      await c.query('ROLLBACK');
      assert.strictEqual(await nameOf(c), 'tx-3');
    });
    c.release();
    await one.end();
    await Promise.all(Array.from({ length: 60 }, (_, i) => as(`many-${i % 7}`, async () => {
      assert.strictEqual(await nameOf(pool), `many-${i % 7}`);
      const n = (await pool.query(WRITE, [70 + (i % 7)])).rows[0].n;
      assert.ok((await pool.query(READ, [70 + (i % 7)])).rows[0].n >= n);
    })));
  },

  async a_client_that_is_connected_already() {
    const c = new Client(config);
    await c.connect();
    wrapClient(c);
    await session.run('', async () => {
      await c.query(WRITE, [59]);
      const first = session.current().token;
      await c.query('DISCARD ALL');
      await c.query(WRITE, [59]);
      assert.ok(first !== '' && session.current().token !== first);
    });
    await c.end();
  },

  async a_connection_that_breaks(pool) {
    await session.run('', async () => {
      const c = await pool.connect();
      c.on('error', () => {});
      await c.query(READ, [60]);
      c.connection.stream.destroy();
      await assert.rejects(c.query(READ, [60]));
      c.release(true);
      await session.current().settle();
      await pool.query(READ, [60]);
    });
  },
};

async function main() {
  let failures = 0;
  for (const [name, fn] of Object.entries(cases)) {
    const pool = wrapPool(new Pool({ ...config, max: 4 }));
    try {
      await fn(pool);
      console.log(`ok ${name}`);
    } catch (e) {
      failures++;
      console.log(`FAIL ${name}: ${e.stack}`);
    }
    // A case that failed may have kept its client.
    await Promise.race([pool.end(), new Promise((resolve) => setTimeout(resolve, 1000).unref())]);
  }
  if (warnings > 0) console.log(`FAIL ${warnings} deprecation warnings`);
  process.exit(failures + warnings);
}

main();
