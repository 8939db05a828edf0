// SPDX-License-Identifier: PostgreSQL
//
// A service of pages that belong to users, to be put behind a shared cache. Its handlers say about caching what
// careless ones say. Prints its port.
//
//   NODE_PATH=.deps/node_modules node js_cache.js PORT-OF-ROUTER with|without
'use strict';

const path = require('node:path');
const express = require('express');
const { Pool } = require('pg');
const tm = require(path.join(__dirname, '..', '..', 'js'));

const [port, mode] = process.argv.slice(2);
const pool = tm.wrapPool(new Pool({ host: '127.0.0.1', port: Number(port), user: 'app', database: 'app' }));
const app = express();
if (mode === 'with') app.use(tm.tidemark({ cookie: false }));

const userOf = (req) => Number(/user=(\d+)/.exec(req.headers.cookie)[1]);
const rowOf = async (req) => (await pool.query('SELECT id, n AS version FROM items WHERE id = $1', [userOf(req)])).rows[0];

const SAYS = {
  nothing: undefined,
  public: 'public, max-age=60',
  shared: 's-maxage=60',
  age: 'max-age=60',
  stale: 'max-age=1, stale-while-revalidate=60',
};
for (const [name, header] of Object.entries(SAYS)) {
  app.get(`/${name}`, async (req, res) => {
    if (header) res.set('Cache-Control', header);
    res.json(await rowOf(req));
  });
}
app.get('/length', async (req, res) => {
  const body = JSON.stringify(await rowOf(req));
  res.set('ETag', `"${body.length}"`).type('json').send(body);
});
app.get('/versioned', async (req, res) => {
  const row = await rowOf(req);
  const etag = await tm.versionedETag(row, { variant: String(row.id) });
  if (!tm.notModified(req, res, etag)) res.json(row);
});
app.post('/', async (req, res) => {
  await pool.query('UPDATE items SET n = n + 1 WHERE id = $1', [userOf(req)]);
  res.end();
});

process.on('warning', () => {});
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
