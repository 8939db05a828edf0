// SPDX-License-Identifier: PostgreSQL
'use strict';

const assert = require('node:assert');
const http = require('node:http');
const { test } = require('node:test');
const { tidemarkFetch, tidemarkAxios } = require('../forward');
const { run, current } = require('../session');
const { at } = require('./fakes');

let axios;
try {
  axios = require('axios');
} catch {
  axios = null;
}

// A server that writes down what came; `answer(req)` is [status, headers].
async function service(answer = () => [200, {}]) {
  const seen = [];
  const server = http.createServer((req, res) => {
    let body = '';
    req.on('data', (d) => { body += d; });
    req.on('end', () => {
      seen.push({ method: req.method, url: req.url, token: req.headers['x-read-after'], cookie: req.headers.cookie, body });
      res.writeHead(...answer(req)).end('answer');
    });
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const host = `127.0.0.1:${server.address().port}`;
  return { seen, host, url: `http://${host}/`, close: () => (server.closeAllConnections?.(), server.close()) };
}

const clients = {
  fetch: (options) => {
    const f = tidemarkFetch(undefined, options);
    return async (url, { method = 'GET', body, headers } = {}) => (await f(url, { method, body, headers })).text();
  },
};
if (axios) {
  clients.axios = (options) => {
    const instance = tidemarkAxios(axios.create({ proxy: false }), options);
    return async (url, { method = 'GET', body, headers } = {}) =>
      (await instance.request({ url, method, data: body, headers })).data;
  };
}

for (const [name, make] of Object.entries(clients)) {
  test(`${name}: the token goes out and the answer's comes in`, async () => {
    const b = await service(() => [200, { 'X-Read-After': at(6) }]);
    await run(at(5), async () => {
      assert.strictEqual(await make({ hosts: [b.host] })(b.url), 'answer');
      assert.strictEqual(current().token, at(6));
    });
    assert.strictEqual(b.seen[0].token, at(5));
    b.close();
  });

  test(`${name}: a stranger gets no token, and his is not believed`, async () => {
    const b = await service(() => [200, { 'X-Read-After': 'primary' }]);
    await run(at(5), async () => {
      await make({ hosts: ['127.0.0.1', '127.0.0.1:1', `https://${b.host}`, 'example.org'] })(b.url);
      assert.strictEqual(current().token, at(5));
    });
    assert.strictEqual(b.seen[0].token, undefined);
    b.close();
  });

  test(`${name}: a redirect to a stranger goes on without it, one to a friend with it`, async () => {
    const stranger = await service(() => [200, { 'X-Read-After': at(99) }]);
    const friend = await service(() => [200, { 'X-Read-After': at(8) }]);
    const b = await service((req) => [302, { Location: (req.url === '/out' ? stranger : friend).url, 'X-Read-After': at(7) }]);
    const call = make({ hosts: [b.host, `http://${friend.host}`] });
    await run(at(5), async () => {
      await call(`${b.url}out`);
      await call(`${b.url}in`);
      assert.strictEqual(current().token, at(8));
    });
    assert.strictEqual(stranger.seen[0].token, undefined);
    assert.notStrictEqual(friend.seen[0].token, undefined);
    for (const s of [stranger, friend, b]) s.close();
  });

  test(`${name}: an error's answer counts too`, async () => {
    const b = await service(() => [500, { 'X-Read-After': at(6) }]);
    await run('', async () => {
      await make({ hosts: [b.host] })(b.url).catch(() => {});
      assert.strictEqual(current().token, at(6));
    });
    b.close();
  });

  test(`${name}: outside of a session nothing is added`, async () => {
    const b = await service();
    await make({ hosts: [b.host] })(b.url, { method: 'POST', body: 'x' });
    assert.deepStrictEqual([b.seen[0].token, b.seen[0].body], [undefined, 'x']);
    b.close();
  });

  test(`${name}: the hosts must be named`, () => {
    for (const hosts of [undefined, [], ['*'], 'localhost']) assert.throws(() => make({ hosts }), TypeError);
  });
}

test('fetch: redirects as the standard has them', async () => {
  const b = await service((req) => (req.url === '/end' ? [200, {}] : [Number(req.url.slice(1)), { Location: '/end' }]));
  const other = await service(() => [307, { Location: `${b.url}end` }]);
  const f = tidemarkFetch(undefined, { hosts: [b.host, other.host] });
  await run(at(5), async () => {
    for (const status of [301, 302, 303]) {
      await (await f(`${b.url}${status}`, { method: 'POST', body: 'x' })).text();
      assert.deepStrictEqual([b.seen.at(-1).method, b.seen.at(-1).body], ['GET', '']);
    }
    await (await f(new Request(`${b.url}308`, { method: 'PUT' }), { body: 'y', method: 'PUT' })).text();
    assert.deepStrictEqual([b.seen.at(-1).method, b.seen.at(-1).body], ['PUT', 'y']);
    await (await f(new URL(other.url), { method: 'POST', body: 'z', headers: { Cookie: 'a=b' } })).text();
    assert.deepStrictEqual([b.seen.at(-1).body, b.seen.at(-1).cookie, b.seen.at(-1).token], ['z', undefined, at(5)]);
    assert.strictEqual(other.seen[0].cookie, 'a=b');
    await assert.rejects(f(`${b.url}307`, { method: 'POST', body: new Blob(['s']).stream(), duplex: 'half' }), TypeError);
    assert.strictEqual((await f(`${b.url}302`, { redirect: 'manual' })).status, 302);
    await assert.rejects(f(`${b.url}302`, { redirect: 'error' }));
  });
  b.close();
  other.close();
});

test('fetch: a circle of redirects ends', async () => {
  const b = await service(() => [302, { Location: '/' }]);
  await run(at(5), () => assert.rejects(tidemarkFetch(undefined, { hosts: [b.host] })(b.url), /too many redirects/));
  assert.strictEqual(b.seen.length, 21);
  b.close();
});
