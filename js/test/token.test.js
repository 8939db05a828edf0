// SPDX-License-Identifier: PostgreSQL
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const token = require('../token');

const VECTORS = process.env.TIDEMARK_TOKEN_VECTORS ||
  path.join(__dirname, '..', '..', 'tests', 'vectors', 'token.json');

function readToken(t) {
  return {
    primary: t.primary, issued: t.issued,
    branches: t.branches.map((b) => ({
      cluster: BigInt(b.cluster), timeline: b.timeline, fork: BigInt(b.fork), position: BigInt(b.position),
    })),
  };
}

const keysOf = (v) => token.parseKeys(v.keys);
const optionsOf = (v) => ({ session: v.session, now: v.now, ttl: v.ttl });

function checkVerdict(got, v) {
  assert.strictEqual(got.verdict, v.verdict);
  if (v.token) assert.deepStrictEqual(got.token, readToken(v.token));
  else assert.strictEqual(got.token.primary, true);
}

const ops = {
  keys(v) {
    if (v.ok) assert.deepStrictEqual(token.parseKeys(v.lines).map((k) => k.id), v.ids);
    else assert.throws(() => token.parseKeys(v.lines), TypeError);
  },
  sign(v) {
    assert.strictEqual(token.sign(readToken(v.token), keysOf(v), v.session), v.text);
  },
  verify(v) {
    checkVerdict(token.verify(v.text, keysOf(v), optionsOf(v)), v);
  },
  verify_list(v) {
    checkVerdict(token.verifyList(v.text, keysOf(v), optionsOf(v)), v);
  },
  merge(v) {
    const tokens = v.tokens.map(readToken);
    const all = (list) => list.reduce((a, b) => token.union(a, b));
    assert.deepStrictEqual(all(tokens), readToken(v.token));
    assert.deepStrictEqual(all(tokens.reverse()), readToken(v.token));
  },
  merge_signed(v) {
    assert.strictEqual(token.merge(v.texts, { keys: keysOf(v), ...optionsOf(v) }), v.text);
  },
  merge_list(v) {
    assert.strictEqual(token.merge(v.texts), v.text);
    assert.strictEqual(token.merge([...v.texts].reverse()), v.text);
  },
  covers(v) {
    assert.strictEqual(token.covers(readToken(v.a), readToken(v.b)), v.covers);
  },
};

const vectors = JSON.parse(fs.readFileSync(VECTORS, 'utf8'));

test('every kind of vector is there and is known', () => {
  assert.deepStrictEqual([...new Set(vectors.map((v) => v.op))].sort(), Object.keys(ops).sort());
  assert.ok(vectors.length > 150, `${vectors.length} vectors`);
});

for (const v of vectors) test(`vector: ${v.op}: ${v.name}`, () => ops[v.op](v));

const KEYS = token.parseKeys(`7:${'ab'.repeat(32)}`);
const ONE = { primary: false, issued: 1000, branches: [{ cluster: 5n, timeline: 2, fork: 9n, position: 1n << 63n }] };

test('every single flipped bit of a token is refused', () => {
  const bytes = Buffer.from(token.sign(ONE, KEYS), 'base64url');
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const bad = Buffer.from(bytes);
    bad[bit >> 3] ^= 1 << (bit & 7);
    const got = token.verify(bad.toString('base64url'), KEYS, { now: 1000 });
    assert.notStrictEqual(got.verdict, 'ok', `bit ${bit}`);
    assert.strictEqual(got.token.primary, true);
  }
});

test('every truncation of a token is malformed or forged', () => {
  const text = token.sign(ONE, KEYS);
  for (let n = 0; n < text.length; n++)
    assert.match(token.verify(text.slice(0, n), KEYS, { now: 1000 }).verdict, /malformed|forged/);
});

test('merging is idempotent and absorbs what is covered', () => {
  const older = token.sign({ ...ONE, branches: [{ ...ONE.branches[0], position: 5n }] }, KEYS);
  const newer = token.sign(ONE, KEYS);
  assert.strictEqual(token.merge([older, newer, newer]), newer);
  assert.strictEqual(token.merge([newer]), newer);
});

test('split never throws, whatever it is given', () => {
  for (const x of [undefined, null, '']) assert.deepStrictEqual(token.split(x), []);
  for (const x of [7, {}, [], 'a b', ',', 'a,,b', "a'b", 'x'.repeat(3000), Array(9).fill('a').join(',')])
    assert.deepStrictEqual(token.split(x), ['primary']);
  assert.deepStrictEqual(token.split('a,b'), ['a', 'b']);
});
