// SPDX-License-Identifier: PostgreSQL
'use strict';

const assert = require('node:assert');
const http = require('node:http');
const { test } = require('node:test');
const cookie = require('../cookie');
const { tidemark, notModified } = require('../express');
const { versionedETag, stats } = require('../cache');
const { current } = require('../session');
const { at } = require('./fakes');

let express;
try {
  express = require('express');
} catch {
  express = null;
}
const skip = express ? false : 'express is not installed';
const SECRET = 'a secret of this test';

// Runs `fn(get)` against an application with the middleware and the handler at /.
async function serving(handler, fn, options = {}) {
  const app = express();
  if (options.proxy) app.set('trust proxy', true);
  app.use(tidemark({ secret: SECRET, ...options }));
  app.all('/', handler);
  const server = http.createServer(app).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const get = (headers = {}, method = 'GET') => new Promise((resolve, reject) => {
    http.request({ port: server.address().port, host: '127.0.0.1', method, headers, agent: false }, (res) => {
      let body = '';
      res.on('data', (d) => { body += d; });
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body }));
    }).on('error', reject).end();
  });
  try {
    await fn(get);
  } finally {
    server.closeAllConnections?.();
    await new Promise((resolve) => server.close(resolve));
  }
}

const brought = (req, res) => res.json({ token: current().token });
const cookies = (res) => Object.fromEntries(
  (res.headers['set-cookie'] || []).map((c) => [c.split('=')[0], c.slice(c.indexOf('=') + 1)]));
const sealed = (text, name = 'tidemark') => `${name}=${cookie.seal(name, text, [SECRET])}`;
// A connection that owes for `ms`, then knows that the session has seen `text`.
const owing = (text, ms = 20) => ({
  report: 'primary', owes: true, life: {}, reports: 1, changing: false,
  async settle() {
    await new Promise((resolve) => setTimeout(resolve, ms));
    Object.assign(this, { owes: false, report: text });
  },
});

test('the token of the header is the request\'s and comes back', { skip }, async () => {
  await serving(brought, async (get) => {
    const r = await get({ 'X-Read-After': at(5) });
    assert.strictEqual(JSON.parse(r.body).token, at(5));
    assert.strictEqual(r.headers['x-read-after'], at(5));
  });
});

test('headers that came twice, a list, both cookies: all are merged', { skip }, async () => {
  const a = at(5);
  const b = at(6, { timeline: 2 });
  const c = at(7, { timeline: 3 });
  const all = [a, b, c].sort().join(',');
  await serving(brought, async (get) => {
    for (const headers of [
      { 'X-Read-After': [a, `${b},${c}`] },
      { 'X-Read-After': ` ${a} , ${b}`, Cookie: `x=y; ${sealed(c)}` },
      { Cookie: `${sealed(`${a},${b}`)};${sealed(c, 'tidemark-r')}` },
    ]) assert.strictEqual(JSON.parse((await get(headers)).body).token, all);
  });
});

test('whatever is forged, garbage or too long means primary, never nothing', { skip }, async () => {
  const good = cookie.seal('tidemark', at(5), [SECRET]);
  const bad = [
    { Cookie: 'tidemark=' }, { Cookie: 'tidemark=x' }, { Cookie: `tidemark=${at(5)}` },
    { Cookie: `tidemark=${cookie.seal('tidemark', at(5), ['another secret...'])}` },
    { Cookie: `tidemark=${good.slice(0, -1)}` }, { Cookie: `tidemark=${good.replace(/^E/, 'F')}` },
    { Cookie: `tidemark-r=${good}` }, { Cookie: `tidemark=${'x'.repeat(5000)}` },
    { 'X-Read-After': 'no token' }, { 'X-Read-After': "'; DROP TABLE x" }, { 'X-Read-After': 'x'.repeat(5000) },
    { 'X-Read-After': Array(9).fill(at(1)).join(',') }, { 'X-Read-After': ',' }, { 'X-Read-After': 'x'.repeat(297) },
    { 'X-Read-After': `${at(5)},`, Cookie: sealed(at(6)) },
  ];
  await serving(brought, async (get) => {
    for (const headers of bad) {
      const r = await get(headers);
      assert.strictEqual(r.status, 200);
      assert.strictEqual(JSON.parse(r.body).token, 'primary', JSON.stringify(headers).slice(0, 100));
    }
    assert.strictEqual(JSON.parse((await get()).body).token, '');
    assert.strictEqual(JSON.parse((await get({ 'X-Read-After': 'x'.repeat(296) })).body).token, 'x'.repeat(296));
  });
});

test('the cookie: HttpOnly, Lax, Secure with https; reads have one of their own', { skip }, async () => {
  const see = (req, res) => {
    current().merge(at(9), { trusted: true });
    res.cookie('mine', '1').send('x');
  };
  await serving(see, async (get) => {
    const post = await get({}, 'POST');
    assert.deepStrictEqual(Object.keys(cookies(post)), ['mine', 'tidemark']);
    assert.match(post.headers['set-cookie'][1], /^tidemark=[\w-]+\.[\w-]{22}; Path=\/; Max-Age=86400; HttpOnly; SameSite=Lax$/);
    const again = await get({ Cookie: `tidemark=${cookies(post).tidemark.split(';')[0]}` });
    assert.strictEqual(again.headers['x-read-after'], at(9));
    assert.deepStrictEqual(Object.keys(cookies(again)), ['mine'], 'nothing new, no cookie');
    assert.deepStrictEqual(Object.keys(cookies(await get())), ['mine', 'tidemark-r']);
    const https = await get({ 'X-Forwarded-Proto': 'https' }, 'POST');
    assert.match(https.headers['set-cookie'][1], /; HttpOnly; SameSite=Lax; Secure$/);
  }, { proxy: true });
});

test('a secret may be replaced', { skip }, async () => {
  await serving(brought, async (get) => {
    assert.strictEqual(JSON.parse((await get({ Cookie: sealed(at(5)) })).body).token, at(5));
  }, { secret: ['the new one, in use', SECRET] });
});

test('with cookies a secret is required', () => {
  for (const secret of [undefined, '', 'short', [], [SECRET, '']]) assert.throws(() => tidemark({ secret }), TypeError);
  tidemark({ cookie: false });
});

test('the head waits for a connection that owes, and looks sent meanwhile', { skip }, async () => {
  let seen;
  await serving((req, res) => {
    const connection = owing(at(33));
    current().absorb(connection);
    res.json({ token: current().token });
    seen = [res.headersSent, res.write('late')];
    res.end('twice');
  }, async (get) => {
    const r = await get();
    assert.strictEqual(r.body, '{"token":"primary"}');
    assert.strictEqual(r.headers['x-read-after'], at(33));
    assert.deepStrictEqual(seen, [true, false]);
  });
});

test('… but no longer than settleTimeout, and not if the head is out', { skip }, async () => {
  const never = { ...owing(at(1)), settle: () => new Promise(() => {}) };
  await serving((req, res) => {
    current().absorb(never);
    if (req.query.stream) res.write('a');
    res.end('b');
  }, async (get) => {
    const began = Date.now();
    assert.strictEqual((await get()).headers['x-read-after'], 'primary');
    assert.ok(Date.now() - began < 2000);
  }, { settleTimeout: 30 });
});

test('answers to a known user are not stored; others are as the handler has them', { skip }, async () => {
  let set;
  const known = [{ Cookie: 'sid=1' }, { Authorization: 'Bearer x' }, { 'X-Read-After': at(1) }];
  await serving((req, res) => {
    if (set) res.set('Cache-Control', set);
    res.send('body');
  }, async (get) => {
    const cases = [
      [undefined, 'private, no-store'], ['private, max-age=60', 'private, max-age=60'], ['no-store', 'no-store'],
      ['private, no-cache', 'private, no-cache'], ['no-cache', 'private, no-cache'], ['max-age=60', 'private, max-age=60'],
      ['public, max-age=60', 'private, no-store'], ['private, stale-while-revalidate=9', 'private, no-store'],
      ['s-maxage=5', 'private, no-store'], ['no-cache, STALE-IF-ERROR=9', 'private, no-store'],
      ['private="public", max-age=1', 'private="public", max-age=1'],
    ];
    for (const headers of known) {
      for (const [given, expected] of cases) {
        set = given;
        assert.strictEqual((await get(headers)).headers['cache-control'], expected, `${given} for ${JSON.stringify(headers)}`);
      }
    }
    for (const given of [undefined, 'public, max-age=60, stale-while-revalidate=9']) {
      set = given;
      assert.strictEqual((await get()).headers['cache-control'], given);
    }
  });
});

test('a refused directive is counted each time and warned of once; CDN headers go', { skip }, async () => {
  const warnings = [];
  const heard = (w) => warnings.push(w.message);
  process.on('warning', heard);
  await serving((req, res) => res.writeHead(200, { 'cache-control': 'Public', 'CDN-Cache-Control': 'max-age=9' }).end('x'),
    async (get) => {
      const before = stats.cacheControlReplaced;
      for (let i = 0; i < 3; i++) {
        const r = await get({ Cookie: 'a=b' });
        assert.strictEqual(r.headers['cache-control'], 'private, no-store');
        assert.strictEqual(r.headers['cdn-cache-control'], undefined);
      }
      assert.strictEqual(stats.cacheControlReplaced, before + 6);
    });
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', heard);
  assert.strictEqual(warnings.filter((w) => w.startsWith('CDN-Cache-Control')).length, 1);
});

test('headers given to writeHead in every form are seen', { skip }, async () => {
  const forms = [
    (res) => res.writeHead(200, { 'Cache-Control': 'public', 'X-A': '1' }),
    (res) => res.writeHead(200, 'Fine', { 'Cache-Control': 'public', 'X-A': '1' }),
    (res) => res.writeHead(200, ['Cache-Control', 'public', 'X-A', '1']),
    (res) => res.writeHead(200, [['Cache-Control', 'public'], ['X-A', '1']]),
  ];
  let form;
  await serving((req, res) => form(res).end('x'), async (get) => {
    for (form of forms) {
      const r = await get({ Cookie: 'a=b' });
      assert.strictEqual(r.headers['cache-control'], 'private, no-store');
      assert.strictEqual(r.headers['x-a'], '1');
    }
  });
});

test('Express makes no ETag for a known user, and no 304 from the body\'s', { skip }, async () => {
  await serving((req, res) => res.send('the same body'), async (get) => {
    const anonymous = await get();
    assert.match(anonymous.headers.etag, /^W\//);
    assert.strictEqual((await get({ 'If-None-Match': anonymous.headers.etag })).status, 304);
    const known = await get({ Cookie: 'a=b', 'If-None-Match': anonymous.headers.etag });
    assert.strictEqual(known.status, 200);
    assert.strictEqual(known.headers.etag, undefined);
    assert.strictEqual(known.body, 'the same body');
  });
});

test('an ETag of the body\'s length that the handler sets is dropped and counted', { skip }, async () => {
  await serving((req, res) => res.set('ETag', '"4"').send('body'), async (get) => {
    const before = stats.etagsDropped;
    const r = await get({ Cookie: 'a=b', 'If-None-Match': '"4"' });
    assert.deepStrictEqual([r.status, r.headers.etag, stats.etagsDropped - before], [200, undefined, 1]);
  });
});

test('a versioned ETag: 304 for the same version of the same history only', { skip }, async () => {
  let row = { version: 7 };
  let timeline = 1;
  let reads = 0;
  await serving(async (req, res) => {
    reads++;
    current().absorb(owing(at(33, { timeline }), 5));
    if (notModified(req, res, await versionedETag(row))) return;
    res.json(row);
  }, async (get) => {
    const first = await get({ Cookie: 'a=b' });
    assert.strictEqual(first.headers.etag, '"1.1-7"');
    assert.strictEqual(first.headers['cache-control'], 'private, no-cache');
    const headers = { Cookie: 'a=b', 'If-None-Match': `"x", W/${first.headers.etag}` };
    const same = await get(headers);
    assert.deepStrictEqual([same.status, same.body, same.headers.etag], [304, '', '"1.1-7"']);
    row = { version: 8 };
    assert.strictEqual((await get(headers)).status, 200);
    row = { version: 7 };
    timeline = 2;
    assert.strictEqual((await get(headers)).status, 200, 'after a failover version 7 may be another');
    assert.strictEqual(reads, 4, 'every answer comes from a read');
  });
});

test('versionedETag: forms, and none where the history is not known', async () => {
  assert.strictEqual(await versionedETag({ version: 3n }, { epoch: 'e' }), '"e-3"');
  assert.strictEqual(await versionedETag('9', { epoch: 'e', variant: 'de', weak: true }), 'W/"e-9-de"');
  assert.strictEqual(await versionedETag(0, { epoch: 'e' }), '"e-0"');
  for (const v of [undefined, null, {}]) assert.strictEqual(await versionedETag(v, { epoch: 'e' }), null);
  assert.strictEqual(await versionedETag(3), null);
  await assert.rejects(versionedETag('a"b', { epoch: 'e' }), TypeError);
});

test('sessionName names the session of the request', { skip }, async () => {
  const see = (req, res) => res.json({ name: current().name, same: current() === req.tidemark });
  const options = { cookie: false, header: false, sessionName: (req) => req.headers['x-user'] };
  await serving(see, async (get) => {
    const named = await get({ 'X-User': 'u1' });
    assert.deepStrictEqual(JSON.parse(named.body), { name: 'u1', same: true });
    // Nothing but the name tells that this is somebody's.
    assert.strictEqual(named.headers['cache-control'], 'private, no-store');
    assert.strictEqual(named.headers.etag, undefined);
    const nobody = await get();
    assert.strictEqual(JSON.parse(nobody.body).name, '');
    assert.strictEqual(nobody.headers['cache-control'], undefined);
  }, options);
});

test('a sessionName that fails, or names nothing that can be one, is an error of the request', { skip }, async () => {
  for (const sessionName of [() => { throw new Error('who?'); }, async () => 'u1', () => ({ id: 1 })]) {
    let handled = 0;
    const silenced = console.error;
    console.error = () => {};
    try {
      await serving((req, res) => res.json(++handled), async (get) => {
        assert.strictEqual((await get()).status, 500);
      }, { sessionName });
    } finally {
      console.error = silenced;
    }
    assert.strictEqual(handled, 0);
  }
});
