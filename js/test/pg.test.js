// SPDX-License-Identifier: PostgreSQL
'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { Session, run, current } = require('../session');
const { wrapClient, wrapPool } = require('../pg');
const { parse } = require('../token');
const { FakeRouter, KEYS, OWED, at } = require('./fakes');

let pg;
try {
  pg = require('pg');
} catch {
  pg = null;
}
const skip = pg ? false : 'node-postgres is not installed';

function poolOf(router, options = {}) {
  return wrapPool(new pg.Pool({ stream: router.stream, user: 'u', database: 'd', password: 'p', max: 1, ...options }));
}

const SET = (text) => `SET tidemark.read_after = '${text}'`;

async function withPool(options, fn) {
  const router = new FakeRouter();
  const pool = poolOf(router, options);
  try {
    await fn(pool, router);
  } finally {
    await pool.end();
  }
}

test('a connection asks for reports when it starts, and keeps the options it has', { skip }, async () => {
  await withPool({ options: '-c a=b' }, async (pool, router) => {
    await pool.query('SELECT 1');
    const options = router.startup[0][router.startup[0].indexOf('options') + 1];
    assert.strictEqual(options, '-c a=b -c tidemark.report=on');
    assert.deepStrictEqual(router.statements, ['SELECT 1']);
  });
});

test('a connected client is asked for reports by a statement', { skip }, async () => {
  const router = new FakeRouter();
  const client = new pg.Client({ stream: router.stream(), user: 'u', database: 'd' });
  await client.connect();
  wrapClient(wrapClient(client));
  await client.query('SELECT 1');
  assert.deepStrictEqual(router.statements, ['SET tidemark.report = on', 'SELECT 1']);
  await client.end();
});

test('the token is told once per connection and session, in front of the first statement', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    await run(at(5), async () => {
      await pool.query('SELECT 1');
      await pool.query('SELECT 2');
    });
    await run(at(5), () => pool.query('SELECT 3'));
    await pool.query('SELECT 4');
    assert.deepStrictEqual(router.statements, [SET(at(5)), 'SELECT 1', 'SELECT 2', SET(at(5)), 'SELECT 3', 'SELECT 4']);
  });
});

test('what the connection covers by its own report is not told, if it is trusted', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = () => ({ report: at(9) });
    await pool.query('UPDATE');
    await run(at(9), () => pool.query('SELECT 1'), { trusted: true });
    await run(at(8), () => pool.query('SELECT 2'), { trusted: true });
    await run(at(8), () => pool.query('SELECT 3'));
    await run(at(10), () => pool.query('SELECT 4'), { trusted: true });
    assert.deepStrictEqual(router.statements,
      ['UPDATE', 'SELECT 1', 'SELECT 2', SET(at(8)), 'SELECT 3', SET(at(10)), 'SELECT 4']);
  });
});

test('the report is in the session when the query resolves, and when it calls back', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = () => ({ report: at(20) });
    await run('', async () => {
      await pool.query('UPDATE');
      assert.strictEqual(current().token, at(20));
    });
    router.answer = () => ({ report: at(21) });
    await new Promise((resolve, reject) => {
      run('', () => pool.query('UPDATE', (error) => {
        try {
          assert.ifError(error);
          assert.strictEqual(current().token, at(21));
          resolve();
        } catch (e) {
          reject(e);
        }
      }));
    });
  });
});

test('a failed statement reports too, and the connection goes on', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql === 'BAD' ? { error: 'no', report: at(30) } : {});
    await run('', async () => {
      const client = await pool.connect();
      await assert.rejects(client.query('BAD'), /no/);
      assert.strictEqual(current().token, at(30));
      await client.query('SELECT 1');
      client.release();
    });
    assert.strictEqual(router.connections, 1);
  });
});

test('a report replaces what the connection was told, also "primary" and garbage', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql.startsWith('SELECT') ? { report: at(40 + router.statements.length) } : {});
    for (const brought of ['primary', at(7), 'garbage', `${at(7)},${at(6, { timeline: 2 })}`]) {
      await run(brought, async () => {
        await pool.query('SELECT 1');
        assert.strictEqual(current().token, at(40 + router.statements.length));
      });
    }
  });
});

test('a report that is older than the SET replaces nothing', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql === 'FIRST' ? { report: at(50) } : {});
    await run('', () => pool.query('FIRST'));
    await run('primary', async () => {
      await pool.query('SHOW something');
      assert.strictEqual(current().token, 'primary');
    });
  });
});

test('a token of another cluster stays beside the report', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    const other = at(3, { cluster: 99n });
    router.answer = () => ({ report: at(60) });
    await run(`${other},${at(1)}`, async () => {
      await pool.query('SELECT 1');
      assert.deepStrictEqual(current().token.split(',').sort(), [other, at(60)].sort());
    });
  });
});

test('with keys a forged token ends here, and the session\'s is one token', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    const forged = at(5).replace(/.$/, (c) => (c === 'A' ? 'E' : 'A'));
    await run(forged, () => pool.query('A'), { keys: KEYS });
    await run(`${at(5)},${at(6, { timeline: 2 })}`, () => {
      assert.strictEqual(parse(current().token).branches.length, 2);
      return pool.query('B');
    }, { keys: KEYS });
    assert.deepStrictEqual(router.statements, [SET('primary'), 'A', SET(`${at(5)},${at(6, { timeline: 2 })}`), 'B']);
  });
});

test('inside a transaction nothing is told; behind it what came meanwhile', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    await run(at(5), async () => {
      const client = await pool.connect();
      await client.query('BEGIN');
      current().merge(at(6));
      await client.query('SELECT 1');
      await client.query('COMMIT');
      await client.query('SELECT 2');
      client.release();
    });
    assert.deepStrictEqual(router.statements,
      [SET(at(5)), 'BEGIN', 'SELECT 1', 'COMMIT', SET(at(6)), 'SELECT 2']);
  });
});

test('statements queued at once keep their order behind the SET', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    await run(at(5), async () => {
      const client = await pool.connect();
      const called = new Promise((resolve) => client.query('A', resolve));
      await Promise.all([called, client.query('B')]);
      client.release();
    });
    assert.deepStrictEqual(router.statements, [SET(at(5)), 'A', 'B']);
  });
});

test('statements never pile up in the client\'s queue, which node-postgres gives up', { skip }, async () => {
  const warnings = [];
  const heard = (w) => w.name === 'DeprecationWarning' && warnings.push(w);
  process.on('warning', heard);
  await withPool({ max: 3 }, async (pool, router) => {
    router.answer = (sql) => (sql.startsWith('SHOW') ? { rows: [at(80)] } : { report: OWED });
    for (let i = 0; i < 5; i++) {
      await run(at(i + 1), async () => {
        await Promise.all([1, 2, 3, 4, 5].map((n) => pool.query(`SELECT ${n}`)));
        const settled = current().settle();
        await pool.query('SELECT 6');
        await settled;
      });
    }
  });
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', heard);
  assert.deepStrictEqual(warnings, []);
});

test('a refused SET fails the statement behind it: it is not answered without', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql.startsWith('SET tidemark.read_after') ? { error: 'no room' } : {});
    await run(at(5), () => assert.rejects(pool.query('SELECT 1'), /closed/));
    assert.deepStrictEqual(router.statements, [SET(at(5))]);
    assert.strictEqual(router.ended, 1);
    await pool.query('SELECT 2');
    assert.strictEqual(router.connections, 2);
  });
});

test('a connection whose session changes is told again', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = () => ({ report: at(5) });
    await run(at(5), async () => {
      await pool.query('SELECT 1');
      await pool.query("SET tidemark.session = 'x'");
      await pool.query('SELECT 2');
      await pool.query('DISCARD ALL');
      await pool.query('SELECT 3');
    }, { trusted: true });
    assert.deepStrictEqual(router.statements, [SET(at(5)), 'SELECT 1', "SET tidemark.session = 'x'",
      SET(at(5)), 'SELECT 2', 'DISCARD ALL', SET(at(5)), 'SELECT 3']);
  });
});

test('… also where the router reports nothing', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    await run(at(5), async () => {
      for (const sql of ['A', "SET tidemark.session = 'x'", 'B', 'RESET ALL', 'C']) await pool.query(sql);
    });
    assert.deepStrictEqual(router.statements,
      [SET(at(5)), 'A', "SET tidemark.session = 'x'", SET(at(5)), 'B', 'RESET ALL', SET(at(5)), 'C']);
  });
});

test('a connection that owes makes the session say primary, until it is settled', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql.startsWith('SHOW') ? { rows: [at(70)] } : { report: OWED });
    await run(at(5), async () => {
      const s = current();
      await pool.query('SELECT 1');
      assert.strictEqual(s.token, 'primary');
      assert.strictEqual(s.owes, true);
      await Promise.all([s.settle(), s.settle()]);
      assert.strictEqual(s.token, at(70));
    });
    assert.deepStrictEqual(router.statements, [SET(at(5)), 'SELECT 1', 'SHOW tidemark.token']);
  });
});

test('a connection that reports no more counts as one that owes', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => ({ report: sql === 'RESET tidemark.report' ? '' : at(5) });
    await run('', async () => {
      await pool.query('UPDATE');
      await pool.query('RESET tidemark.report');
      assert.strictEqual(current().token, 'primary');
    });
  });
});

test('settling gives up after its time, and the token says primary', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    let go;
    const later = new Promise((resolve) => {
      go = resolve;
    });
    router.answer = (sql) => (sql.startsWith('SHOW') ? later : { report: OWED });
    await run('', async () => {
      await pool.query('SELECT 1');
      const began = Date.now();
      await current().settle({ timeout: 30 });
      assert.ok(Date.now() - began < 1000);
      assert.strictEqual(current().token, 'primary');
      go({ rows: [at(71)] });
      await current().settle();
      assert.strictEqual(current().token, at(71));
    });
  });
});

test('a read on another connection is settled before the pool hands this one out', { skip }, async () => {
  await withPool({ max: 2 }, async (pool, router) => {
    router.answer = (sql) => (sql.startsWith('SHOW') ? { rows: [at(80)] } : sql === 'A' || sql === 'B' ? { report: OWED } : {});
    await run('', async () => {
      await Promise.all([pool.query('A'), pool.query('B')]);
      await pool.query('C');
    });
    const c = router.statements.indexOf('C');
    assert.strictEqual(router.statements[c - 1], SET(at(80)));
    assert.strictEqual(router.statements.filter((s) => s.startsWith('SHOW')).length, 1);
  });
});

test('the callback of connect runs in the scope of who called', { skip }, async () => {
  await withPool({ max: 1 }, async (pool) => {
    const order = [];
    const one = (s) => new Promise((resolve) => {
      run(s, () => pool.connect((error, client, release) => {
        assert.ifError(error);
        order.push(current() === s);
        client.query('SELECT 1', () => {
          order.push(current() === s);
          release();
          resolve();
        });
      }));
    });
    await Promise.all([one(new Session()), one(new Session()), one(new Session())]);
    assert.deepStrictEqual(order, Array(6).fill(true));
  });
});

test('outside of a session nothing is told', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = () => ({ report: at(5) });
    await pool.query('SELECT 1');
    assert.strictEqual(current(), undefined);
    assert.deepStrictEqual(router.statements, ['SELECT 1']);
  });
});

test('a statement is told once, whatever the router reports meanwhile', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    for (const report of ['opaque', "t'/x", OWED, 'primary', `${at(1)},${at(2)}`]) {
      router.answer = () => ({ report });
      await run('primary', async () => {
        const client = await pool.connect();
        for (const sql of ['A', 'DISCARD ALL', 'B']) await client.query(sql);
        client.release();
      });
    }
    assert.ok(router.statements.length <= 5 * 6, `${router.statements.length} statements`);
    assert.ok(router.statements.every((s) => !s.includes("t'")));
  });
});

test('a connection that breaks fails what waits, and nobody waits for it', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql.startsWith('SET') ? new Promise(() => {}) : { report: OWED });
    await run('', async () => {
      const s = current();
      const client = await pool.connect();
      client.on('error', () => {});
      await client.query('SELECT 1');
      s.merge(at(5));
      const waits = [client.query('SELECT 2'), client.query('SELECT 3')];
      const settled = s.settle({ timeout: 5000 });
      client.connection.stream.destroy();
      for (const w of waits) await assert.rejects(w);
      await settled;
      client.release(true);
    });
  });
});

// ---- names

const NAME = (text) => `SET tidemark.session = '${text}'`;
const as = (name, fn, text = '') => run(text, fn, { name });

test('a request\'s name is told when the connection has another, and taken back for those without', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    await pool.query('A');
    for (const name of ['u1', 'u1', 42]) await as(name, () => pool.query('B'));
    await run('', () => pool.query('C'));
    await pool.query('D');
    await as(7n, () => new Promise((resolve) => pool.query('E', resolve)));
    assert.deepStrictEqual(router.statements,
      ['A', NAME('u1'), 'B', 'B', NAME('42'), 'B', NAME(''), 'C', 'D', NAME('7'), 'E']);
  });
});

test('where nobody has a name, what the application sets itself stands', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    for (const sql of [NAME('mine'), 'A']) await run('', () => pool.query(sql));
    await pool.query('B');
    assert.deepStrictEqual(router.statements, [NAME('mine'), 'A', 'B']);
  });
});

test('a name is told again after what may have changed it', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    await as('u1', async () => {
      for (const sql of ['A', 'DISCARD ALL', 'B', NAME('own'), 'C', 'RESET ALL']) await pool.query(sql);
    });
    await pool.query('D');
    assert.deepStrictEqual(router.statements, [NAME('u1'), 'A', 'DISCARD ALL', NAME('u1'), 'B', NAME('own'), NAME('u1'), 'C',
      'RESET ALL', NAME(''), 'D']);
  });
});

test('names are quoted; what cannot be one goes by its digest', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    const long = 'ü'.repeat(63);
    for (const name of ["o'b\\r''", `${long}x`, `${long}xx`, 'a\0b', '', null, undefined]) await as(name, () => pool.query('A'));
    const told = router.statements.filter((s) => s !== 'A');
    assert.deepStrictEqual(told.slice(0, 2), [NAME("o''b\\r''''"), NAME(`${long}x`)]);
    for (const s of told.slice(2, 4)) assert.match(s, /^SET tidemark\.session = '[\w-]{43}'$/);
    assert.deepStrictEqual(told.slice(4), [NAME('')]);
    for (const name of [{}, [], true, Promise.resolve('u')]) assert.throws(() => new Session('', { name }), TypeError);
  });
});

test('the name goes in front of BEGIN, and into a transaction if it changes there', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    await as('guest', async () => {
      const client = await pool.connect();
      await client.query('BEGIN');
      await client.query('A');
      current().name = 'u1';
      await client.query('B');
      await client.query('COMMIT');
      client.release();
    });
    assert.deepStrictEqual(router.statements, [NAME('guest'), 'BEGIN', 'A', NAME('u1'), 'B', 'COMMIT']);
  });
});

test('a failed transaction is ended first', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql === 'BAD' ? { error: 'no' } : {});
    const client = await pool.connect();
    await as('u1', async () => {
      await client.query('BEGIN');
      await assert.rejects(client.query('BAD'));
    });
    await as('u2', async () => {
      await client.query('ROLLBACK');
      await client.query('A');
    });
    client.release();
    assert.deepStrictEqual(router.statements, [NAME('u1'), 'BEGIN', 'BAD', 'ROLLBACK', NAME('u2'), 'A']);
  });
});

test('statements of several names on one client keep their order, each under its own', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    const client = await pool.connect();
    await Promise.all(['u1', 'u1', 'u2', '', 'u1'].map((name, i) => as(name, () => client.query(`S${i}`))));
    client.release();
    assert.deepStrictEqual(router.statements,
      [NAME('u1'), 'S0', 'S1', NAME('u2'), 'S2', NAME(''), 'S3', NAME('u1'), 'S4']);
  });
});

test('a token is told behind the name, and anew under each name', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql.startsWith('SET') ? {} : { report: at(9) });
    await as('u1', () => pool.query('A'), at(5));
    await run(at(9), () => pool.query('B'), { trusted: true, name: 'u1' });
    await run(at(9), () => pool.query('C'), { trusted: true, name: 'u2' });
    assert.deepStrictEqual(router.statements, [NAME('u1'), SET(at(5)), 'A', 'B', NAME('u2'), SET(at(9)), 'C']);
  });
});

test('what is reported under one name settles nothing of another', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql === 'COPY' ? { report: OWED } : { report: at(router.statements.length) });
    const a = new Session(at(90), { name: 'u1' });
    await run(a, () => pool.query('A'));
    const seen = a.token;
    await as('u2', () => pool.query('B'));
    assert.strictEqual(a.token, seen);
    await run(a, () => pool.query('COPY'));
    await as('u2', () => pool.query('C'));
    assert.strictEqual(a.token, 'primary', 'nobody will say any more how far that was');
    await run(a, () => pool.query('D'));
    assert.strictEqual(a.token, at(router.statements.length));
  });
});

test('a name changes only when nothing is under way: a report is of one name', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    let answer;
    const later = new Promise((resolve) => {
      answer = resolve;
    });
    router.answer = (sql) => (sql === 'A' ? later : sql === NAME('u2') ? { report: at(3) } : {});
    const client = await pool.connect();
    const a = new Session(at(90), { name: 'u1' });
    const both = [run(a, () => client.query('A')), as('u2', () => client.query('B'))];
    answer({ report: OWED });
    await Promise.all(both);
    client.release();
    assert.strictEqual(a.token, 'primary', 'what u2 has seen does not settle it');
  });
});

test('a refused name fails the statement behind it', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql === NAME('u1') ? { error: 'too many sessions' } : {});
    await as('u1', () => assert.rejects(pool.query('A'), /closed/));
    assert.deepStrictEqual([router.statements, router.ended], [[NAME('u1')], 1]);
    await as('u2', () => pool.query('B'));
    assert.strictEqual(router.connections, 2);
  });
});

test('a connection that breaks fails what waits for another name', { skip }, async () => {
  await withPool({}, async (pool, router) => {
    router.answer = (sql) => (sql === 'A' ? new Promise(() => {}) : {});
    const client = await pool.connect();
    client.on('error', () => {});
    const all = ['u1', 'u2', 'u3'].map((name) => as(name, () => client.query('A')));
    await new Promise((resolve) => setTimeout(resolve, 20));
    client.connection.stream.destroy();
    for (const w of all) await assert.rejects(w);
    client.release(true);
  });
});

test('what is no client of node-postgres is refused', () => {
  assert.throws(() => wrapClient({ query() {} }), TypeError);
});
