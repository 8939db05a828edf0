// SPDX-License-Identifier: PostgreSQL
//
// The token: docs/token.md is its specification, tests/vectors/token.json its test. Pure, but for the
// clock that verify() takes when it is given no time. All other modules treat tokens as opaque text.
'use strict';

const { createHmac, timingSafeEqual } = require('node:crypto');

const PRIMARY = 'primary';
const BRANCHES_MAX = 8;
const LIST_MAX = 8;
const TEXT_MAX = 296;
const LIST_TEXT_MAX = 2376;
const FUTURE_MAX_S = 60;
const KEYS_MAX = 8;
const KEY_MIN = 16;
const KEY_MAX = 64;

const VERSION = 1;
const FLAG_BOUND = 1;
const FLAG_PRIMARY = 2;
const HEADER = 6;
const BRANCH = 25;
const HMAC = 16;
const ALPHABET = /^[A-Za-z0-9_-]+$/;

// ---- keys

// The keys of a key file's text, or of an array of its lines: "id:hex". The first one signs, all are
// accepted. Throws on anything else: with half the keys, good tokens would count as forged.
function parseKeys(text) {
  const keys = [];
  for (const raw of Array.isArray(text) ? text : String(text).split('\n')) {
    const line = raw.replace(/\r$/, ''); // a line may have ended with CR LF
    if (line === '' || line.startsWith('#')) continue;
    const m = /^(0|[1-9]\d{0,2}):((?:[0-9a-f]{2})+)$/i.exec(line);
    const key = m && { id: Number(m[1]), secret: Buffer.from(m[2], 'hex') };
    if (!key || key.id > 255 || key.secret.length < KEY_MIN || key.secret.length > KEY_MAX)
      throw new TypeError(`a key is a line "id:hex", an id of 0 to 255 and ${KEY_MIN} to ${KEY_MAX} bytes`);
    if (keys.some((k) => k.id === key.id)) throw new TypeError(`key ${key.id} is there twice`);
    if (keys.length === KEYS_MAX) throw new TypeError(`more than ${KEYS_MAX} keys`);
    keys.push(key);
  }
  return keys;
}

// A bound token's HMAC goes over the session's name too, and over its length behind it, so that no byte can be
// moved from one to the other.
function hmac(secret, head, session) {
  const mac = createHmac('sha256', secret).update(head);
  if (session) {
    const name = Buffer.from(session, 'utf8');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(name.length);
    mac.update(name).update(length);
  }
  return mac.digest().subarray(0, HMAC);
}

// ---- one token

// Two branches of one history, and the order in which they stand in a token: that of their bytes.
function compareBranches(a, b) {
  for (const field of ['cluster', 'timeline', 'fork']) {
    if (a[field] !== b[field]) return a[field] < b[field] ? -1 : 1;
  }
  return 0;
}

function readBranch(bytes, at) {
  return {
    cluster: BigInt(bytes.readUIntBE(at, 6)),
    timeline: bytes.readUIntBE(at + 6, 3),
    fork: bytes.readBigUInt64BE(at + 9),
    position: bytes.readBigUInt64BE(at + 17),
  };
}

function writeBranch(bytes, at, b) {
  bytes.writeUIntBE(Number(b.cluster), at, 6);
  bytes.writeUIntBE(b.timeline, at + 6, 3);
  bytes.writeBigUInt64BE(b.fork, at + 9);
  bytes.writeBigUInt64BE(b.position, at + 17);
}

function branchIsValid(b) {
  return b.timeline > 0 && b.position > 0n;
}

// The bytes of base64url text that has exactly one spelling, or null.
function decode(text) {
  if (typeof text !== 'string' || text.length > TEXT_MAX || !ALPHABET.test(text)) return null;
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : null;
}

// What a token says, unverified; null if it is malformed. "primary" is { primary: true } without a key.
//   { primary, bound, keyId, issued, branches: [{ cluster, timeline, fork, position }] }
// cluster, fork and position are BigInt; issued is in seconds since 1970.
function parse(text) {
  if (text === PRIMARY) return { primary: true, bound: false, keyId: null, issued: 0, branches: [] };
  const bytes = decode(text);
  if (!bytes || bytes.length < HEADER + HMAC || (bytes.length - HEADER - HMAC) % BRANCH !== 0) return null;
  const count = (bytes.length - HEADER - HMAC) / BRANCH;
  const flags = bytes[0] & 15;
  const primary = (flags & FLAG_PRIMARY) !== 0;
  if (bytes[0] >> 4 !== VERSION || flags & ~(FLAG_BOUND | FLAG_PRIMARY)) return null;
  if (count > BRANCHES_MAX || primary !== (count === 0)) return null;
  const branches = [];
  for (let i = 0; i < count; i++) branches.push(readBranch(bytes, HEADER + BRANCH * i));
  if (!branches.every(branchIsValid)) return null;
  if (branches.some((b, i) => i > 0 && compareBranches(branches[i - 1], b) >= 0)) return null;
  return { primary, bound: (flags & FLAG_BOUND) !== 0, keyId: bytes[1], issued: bytes.readUInt32BE(2), branches };
}

const nowSeconds = () => Math.floor(Date.now() / 1000);

// Signs with the first key; a session name binds the token to it. A token that asks for nothing is ''.
function sign(token, keys, session = '') {
  if (!token.primary && token.branches.length === 0) return '';
  if (keys.length === 0) return PRIMARY;
  const branches = token.primary ? [] : [...token.branches].sort(compareBranches);
  const head = Buffer.alloc(HEADER + BRANCH * branches.length);
  head[0] = (VERSION << 4) | (session ? FLAG_BOUND : 0) | (token.primary ? FLAG_PRIMARY : 0);
  head[1] = keys[0].id;
  head.writeUInt32BE(token.issued, 2);
  branches.forEach((b, i) => writeBranch(head, HEADER + BRANCH * i, b));
  return Buffer.concat([head, hmac(keys[0].secret, head, session)]).toString('base64url');
}

// { verdict, token }: 'ok', 'malformed', 'forged', 'bound', 'expired', 'future' or 'primary'. The token is what was
// believed; with any verdict but 'ok' it is one that asks for the primary.
function verify(text, keys, { session = '', now = nowSeconds(), ttl = 0 } = {}) {
  const refused = (verdict) => ({ verdict, token: { primary: true, issued: 0, branches: [] } });
  const token = parse(text);
  if (!token) return refused('malformed');
  if (token.keyId === null) return refused('primary');
  const bytes = Buffer.from(text, 'base64url');
  const head = bytes.subarray(0, bytes.length - HMAC);
  const key = keys.find((k) => k.id === token.keyId);
  if (!key) return refused('forged');
  if (token.bound && !session) return refused('bound');
  if (!timingSafeEqual(hmac(key.secret, head, token.bound ? session : ''), bytes.subarray(head.length)))
    return refused(token.bound ? 'bound' : 'forged');
  if (token.issued > now + FUTURE_MAX_S) return refused('future');
  if (ttl > 0 && now - token.issued > ttl) return refused('expired');
  const { primary, issued, branches } = token;
  return { verdict: primary ? 'primary' : 'ok', token: { primary, issued, branches } };
}

// ---- several

// The texts of a list; null if it cannot be one.
function texts(list) {
  if (list === '') return [];
  if (typeof list !== 'string' || list.length > LIST_TEXT_MAX) return null;
  const all = list.split(',');
  return all.length <= LIST_MAX && all.every((t) => t.length <= TEXT_MAX && ALPHABET.test(t)) ? all : null;
}

// The texts of a list of tokens, which somebody sent: ["primary"] if it cannot be one, [] if there is none.
function split(list) {
  return texts(list ?? '') ?? [PRIMARY];
}

// A list, merged into one. The verdict is that of the first token that was not good.
function verifyList(list, keys, options) {
  const nothing = { primary: false, issued: 0, branches: [] };
  const all = list === '' ? [] : list.split(',');
  if (list.length > LIST_TEXT_MAX || all.length > LIST_MAX)
    return { verdict: 'malformed', token: { ...nothing, primary: true } };
  const got = all.map((text) => verify(text, keys, options));
  const token = got.reduce((sum, g) => union(sum, g.token), nothing);
  const bad = got.find((g) => g.verdict !== 'ok');
  return { verdict: bad ? bad.verdict : token.primary ? 'primary' : 'ok', token };
}

// Has one who has seen `a` seen all of `b`? Both parsed.
function covers(a, b) {
  if (a.primary || b.primary) return a.primary;
  return b.branches.every((y) => a.branches.some((x) => compareBranches(x, y) === 0 && x.position >= y.position));
}

// All branches of both, each at its greater position. What does not fit becomes primary, which absorbs all.
function union(a, b) {
  const issued = Math.max(a.issued, b.issued);
  const branches = a.branches.map((x) => ({ ...x }));
  for (const y of b.branches) {
    const x = branches.find((z) => compareBranches(z, y) === 0);
    if (!x) branches.push({ ...y });
    else if (y.position > x.position) x.position = y.position;
  }
  if (a.primary || b.primary || branches.length > BRANCHES_MAX) return { primary: true, issued, branches: [] };
  return { primary: false, issued, branches: branches.sort(compareBranches) };
}

// Does the first make the second superfluous in a list? Of two that say the same one stays: the later, or else
// the one with the greater text.
function replaces([otherText, other], [text, parsed]) {
  if (otherText === text || !other || !parsed || other.bound !== parsed.bound || !covers(other, parsed)) return false;
  if (!covers(parsed, other) || other.issued > parsed.issued) return true;
  return other.issued === parsed.issued && otherText > text;
}

function mergeAsList(all) {
  const tokens = [...new Set(all)].map((text) => [text, parse(text)]);
  if (tokens.some(([, t]) => t && t.primary)) return PRIMARY;
  const kept = tokens.filter((t) => !tokens.some((other) => replaces(other, t)));
  return kept.length > LIST_MAX ? PRIMARY : kept.map(([text]) => text).sort().join(',');
}

// Merges tokens, or lists of them. With keys into one signed token; without, into a list.
function merge(lists, options = {}) {
  const all = lists.flatMap(split);
  if (!options.keys) return mergeAsList(all);
  const nothing = { primary: false, issued: 0, branches: [] };
  const token = all.reduce((sum, text) => union(sum, verify(text, options.keys, options).token), nothing);
  return sign(token, options.keys, options.session);
}

module.exports = {
  PRIMARY, BRANCHES_MAX, LIST_MAX, TEXT_MAX, LIST_TEXT_MAX,
  parseKeys, parse, verify, verifyList, sign, split, merge, union, covers,
};
