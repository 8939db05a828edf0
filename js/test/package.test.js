// SPDX-License-Identifier: PostgreSQL
'use strict';

const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { test } = require('node:test');

test('the ESM entry exports what the CommonJS one does', async () => {
  const cjs = require('..');
  const esm = await import('../index.mjs');
  assert.deepStrictEqual(Object.keys(esm).sort(), [...Object.keys(cjs), 'default'].sort());
  for (const name of Object.keys(cjs)) assert.strictEqual(esm[name], cjs[name]);
});

test('the package needs nothing to run', () => {
  assert.strictEqual(require('../package.json').dependencies, undefined);
  execFileSync(process.execPath, ['-e', `require(${JSON.stringify(path.join(__dirname, '..'))})`],
    { env: { ...process.env, NODE_PATH: '' } });
});

let tsc;
try {
  tsc = require.resolve('typescript/bin/tsc');
} catch {
  tsc = null;
}

test('the types fit what an application writes', { skip: tsc ? false : 'typescript is not installed' }, () => {
  try {
    execFileSync(process.execPath, [tsc, '--project', path.join(__dirname, 'types')], { encoding: 'utf8' });
  } catch (e) {
    assert.fail(e.stdout || e.message);
  }
});
