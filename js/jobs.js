// SPDX-License-Identifier: PostgreSQL
//
// Jobs: the payload carries the token of the request that made it, so that the worker, behind whatever router,
// sees what the request saw and wrote.
'use strict';

const token = require('./token');
const { run, current } = require('./session');

const FIELD = '_readAfter';

function tokenOf(payload) {
  const text = payload === null || payload === undefined ? undefined : payload[FIELD];
  if (text === undefined) return '';
  return typeof text === 'string' ? text : token.PRIMARY;
}

function withField(payload, text) {
  return text === '' ? payload : { ...payload, [FIELD]: text };
}

// The payload with the running session's token. To be called after the writes which the job must see.
async function withToken(payload) {
  const session = current();
  if (!session) return { ...payload };
  await session.settle();
  return withField({ ...payload }, token.merge([tokenOf(payload), session.token]));
}

// Runs `fn(payload)` in a session that begins where the payload was made.
function runJob(payload, fn, options) {
  return run(tokenOf(payload), () => fn(payload), options);
}

// One payload for two jobs: the fields of `b` win, the tokens of both count.
function mergePayloads(a, b) {
  return withField({ ...a, ...b }, token.merge([tokenOf(a), tokenOf(b)]));
}

module.exports = { withToken, runJob, mergePayloads };
