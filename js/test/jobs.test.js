// SPDX-License-Identifier: PostgreSQL
'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { withToken, runJob, mergePayloads } = require('../jobs');
const { run, current } = require('../session');
const { at } = require('./fakes');

const tokenIn = (payload) => runJob(payload, () => current().token);

test('a payload carries the token through JSON into the job', async () => {
  const sent = await run(at(5), () => withToken({ user: 7 }));
  const got = JSON.parse(JSON.stringify(sent));
  assert.strictEqual(got.user, 7);
  assert.strictEqual(tokenIn(got), at(5));
  assert.strictEqual(runJob(got, (p) => p.user), 7);
  assert.strictEqual(await runJob(got, async () => current().token), at(5));
});

test('a payload that is passed on keeps what it had', async () => {
  const sent = await run(at(5, { timeline: 2 }), () => withToken({ _readAfter: at(3) }));
  assert.strictEqual(tokenIn(sent), [at(3), at(5, { timeline: 2 })].sort().join(','));
});

test('without a session, or with an empty one, there is no token', async () => {
  assert.deepStrictEqual(await withToken({ a: 1 }), { a: 1 });
  assert.deepStrictEqual(await run('', () => withToken({ a: 1 })), { a: 1 });
  for (const p of [{}, null, undefined, 'text']) assert.strictEqual(tokenIn(p), '');
});

test('a field that is no token means primary', () => {
  for (const t of [7, null, {}, ['a'], 'no token', 'x'.repeat(3000)])
    assert.strictEqual(tokenIn({ _readAfter: t }), 'primary');
});

test('two payloads become one that counts for both', () => {
  const a = { id: 1, what: 'a', _readAfter: at(9) };
  const b = { id: 1, what: 'b', _readAfter: at(4) };
  assert.deepStrictEqual(mergePayloads(a, b), { id: 1, what: 'b', _readAfter: at(9) });
  assert.strictEqual(mergePayloads(a, { id: 1 })._readAfter, at(9));
  assert.strictEqual(mergePayloads(a, { _readAfter: 7 })._readAfter, 'primary');
  assert.deepStrictEqual(mergePayloads({ x: 1 }, { y: 2 }), { x: 1, y: 2 });
});
