// SPDX-License-Identifier: PostgreSQL
//
// Two Express services, each behind a router of its own, and a client of both. Prints a line of JSON.
//
//   NODE_PATH=.deps/node_modules node js_services.js PORT-OF-ROUTER-A PORT-OF-ROUTER-B MODE ROUNDS
//
// with: the package carries tokens      without: the same services, and nobody carries one
// named: each visitor is a session by name, and no token leaves a service     unnamed: the same without the names
'use strict';

const http = require('node:http');
const path = require('node:path');
const express = require('express');
const { Pool } = require('pg');
const tm = require(path.join(__dirname, '..', '..', 'js'));

const [portA, portB, mode, rounds] = process.argv.slice(2);
const packaged = mode !== 'without';
const carries = mode === 'with';
const SECRET = 'the secret of both services';
const USER = 'X-User'; // as a gateway sets it, behind which these services are
const WHERE = 'public.node_name()';

process.on('warning', (w) => { if (w.name === 'DeprecationWarning') { console.error(w); process.exitCode = 1; } });

function listen(app) {
  const server = http.createServer(app).listen(0, '127.0.0.1');
  return new Promise((resolve) => server.once('listening', () => resolve({ server, host: `127.0.0.1:${server.address().port}` })));
}

function appOf(port) {
  const pool = new Pool({ host: '127.0.0.1', port: Number(port), user: 'app', database: 'app', max: 4 });
  const app = express();
  app.use(express.json());
  if (carries) app.use(tm.tidemark({ secret: SECRET }));
  else if (packaged) {
    const sessionName = mode === 'named' ? (req) => req.get(USER) : undefined;
    app.use(tm.tidemark({ cookie: false, header: false, sessionName }));
  }
  return { pool: packaged ? tm.wrapPool(pool) : pool, app };
}

const readItem = async (pool, id) =>
  (await pool.query(`SELECT n, ${WHERE} AS node FROM items WHERE id = $1`, [id])).rows[0];

const hosts = {};

async function call(req, host, url, init = {}) {
  const fetchIt = carries ? tm.tidemarkFetch(fetch, { hosts: [host] }) : fetch;
  const headers = { [USER]: req.get(USER), 'Content-Type': 'application/json' };
  return (await fetchIt(`http://${host}${url}`, { ...init, headers })).json();
}

// Has A write, and reads itself: what it must see, only A's answer tells.
async function serviceB() {
  const { pool, app } = appOf(portB);
  app.post('/through/:id', async (req, res) => {
    await call(req, hosts.a, `/write/${req.params.id}`, { method: 'POST', body: JSON.stringify(req.body) });
    res.json(await readItem(pool, req.params.id));
  });
  app.get('/items/:id', async (req, res) => res.json(await readItem(pool, req.params.id)));
  return { pool, ...(await listen(app)) };
}

// Writes, has B read, and says what B saw.
async function serviceA() {
  const { pool, app } = appOf(portA);
  app.post('/items/:id', async (req, res) => {
    await pool.query('UPDATE items SET n = $2 WHERE id = $1', [req.params.id, req.body.n]);
    res.json(await call(req, hosts.b, `/items/${req.params.id}`));
  });
  app.post('/write/:id', async (req, res) => {
    const client = await pool.connect();
    await client.query('BEGIN');
    await client.query('UPDATE items SET n = $2 WHERE id = $1', [req.params.id, req.body.n]);
    await client.query('COMMIT');
    client.release();
    res.json({});
  });
  app.get('/items/:id', async (req, res) => res.json(await readItem(pool, req.params.id)));
  return { pool, ...(await listen(app)) };
}

let users = 0;

// A browser that has one jar for both services.
function browser() {
  const jar = new Map();
  const user = `user-${process.pid}-${++users}`;
  return async (host, url, body) => {
    const r = await fetch(`http://${host}${url}`, {
      method: body ? 'POST' : 'GET', body: body && JSON.stringify(body),
      headers: { [USER]: user, 'Content-Type': 'application/json', Cookie: [...jar].map(([k, v]) => `${k}=${v}`).join('; ') },
    });
    for (const c of r.headers.getSetCookie?.() ?? [r.headers.get('set-cookie')].filter(Boolean)) {
      for (const [, k, v] of c.matchAll(/(tidemark(?:-r)?)=([^;]+)/g)) jar.set(k, v);
    }
    if (r.status !== 200) throw new Error(`${url}: ${r.status} ${await r.text()}`);
    return r.json();
  };
}

async function main() {
  const b = await serviceB();
  const a = await serviceA();
  Object.assign(hosts, { a: a.host, b: b.host });
  const count = { reads: 0, stale: 0, backwards: 0, onReplicas: 0 };
  const see = (row, n) => {
    count.reads++;
    if (row.n < n) count.stale++;
    if (row.node !== 'primary') count.onReplicas++;
  };
  let n = 1000;
  for (let i = 0; i < rounds; i++) {
    const id = 31 + (i % 5);
    const visit = browser();
    // From service to service.
    see(await visit(a.host, `/items/${id}`, { n: ++n }), n);
    see(await browser()(b.host, `/through/${id}`, { n: ++n }), n);
    // From request to request, at the other service.
    await visit(a.host, `/write/${id}`, { n: ++n });
    see(await visit(b.host, `/items/${id}`), n);
    see(await visit(a.host, `/items/${id}`), n);
    // Monotonic reads: another visitor, who has written nothing, and what was just written by somebody.
    const stranger = browser();
    await new Promise((resolve) => setTimeout(resolve, 15));
    let last = 0;
    for (const host of [a.host, b.host, a.host]) {
      const row = await stranger(host, `/items/${id}`);
      see(row, 0);
      if (row.n < last) count.backwards++;
      last = row.n;
    }
  }
  for (const s of [a, b]) {
    s.server.close();
    s.server.closeAllConnections();
    await s.pool.end();
  }
  console.log(JSON.stringify(count));
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
