// SPDX-License-Identifier: PostgreSQL
//
// The Express middleware; it works with any framework of (req, res, next) over Node's http.
//
//   X-Read-After, cookies ─▶ session ─▶ the handler, in the session's scope ─▶ X-Read-After, cookie
//
// A token that is forged, garbage or too long becomes "primary": whoever brings one has seen something, and
// nobody knows what. It is never the same as no token.
//
// The answer's head is made when it goes out. If a connection still owes how far the request has seen, end()
// waits for it, so the client is not told "primary" and sent to the primary the next time. To everybody who
// asks, the answer has been sent by then.
'use strict';

const { randomBytes } = require('node:crypto');
const token = require('./token');
const cookie = require('./cookie');
const { forbidStoring, matches, stats } = require('./cache');
const { Session, run, SETTLE_TIMEOUT_MS } = require('./session');

const HEADER = 'X-Read-After';
const NO_ETAG = `"${randomBytes(12).toString('base64url')}"`; // holds the place, and never goes out
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

const versioned = new WeakMap(); // response -> the ETag that it may have

// A header that came several times has been joined by ", ".
function tokenOfHeader(value) {
  return value.length > 2 * token.LIST_TEXT_MAX ? token.PRIMARY : value.replace(/[ \t]*,[ \t]*/g, ',').trim();
}

function settingsOf(options) {
  const secrets = [options.secret ?? []].flat();
  const withCookie = options.cookie !== false;
  if (withCookie && !(secrets.length > 0 && secrets.every((s) => s && s.length >= 16)))
    throw new TypeError('tidemark: secret must be a text of at least 16 characters, or several; or set cookie: false');
  const { name = 'tidemark', path = '/', domain, maxAge = 86400, secure = 'auto' } = options.cookie || {};
  return {
    secrets, withCookie, name, path, domain, maxAge, secure,
    keys: options.keys ? token.parseKeys(options.keys) : null,
    header: options.header !== false,
    settleTimeout: options.settleTimeout ?? SETTLE_TIMEOUT_MS,
    sessionName: options.sessionName || (() => ''),
    identified: options.identified || ((req) => Boolean(req.headers.cookie || req.headers.authorization)),
  };
}

// Two cookies, so that the answer of a read which is overtaken by a write does not take back its token.
const readName = (s) => `${s.name}-r`;

function sessionOf(req, s) {
  const session = new Session('', { keys: s.keys });
  const brought = s.header ? req.headers[HEADER.toLowerCase()] : undefined;
  if (brought) session.merge(tokenOfHeader(brought));
  for (const name of s.withCookie ? [s.name, readName(s)] : []) {
    for (const value of cookie.values(req.headers.cookie, name)) {
      const text = cookie.open(name, value, s.secrets);
      session.merge(text ?? token.PRIMARY, { trusted: text !== null });
    }
  }
  return session;
}

function isSecure(req, s) {
  if (s.secure !== 'auto') return s.secure;
  return Boolean(req.secure || (req.socket && req.socket.encrypted));
}

function setCookie(req, res, s, text) {
  const name = SAFE.has(req.method) ? readName(s) : s.name;
  const parts = [`${name}=${cookie.seal(name, text, s.secrets)}`, `Path=${s.path}`, `Max-Age=${s.maxAge}`];
  if (s.domain) parts.push(`Domain=${s.domain}`);
  parts.push('HttpOnly', 'SameSite=Lax');
  if (isSecure(req, s)) parts.push('Secure');
  const others = [res.getHeader('Set-Cookie') ?? []].flat().map(String);
  res.setHeader('Set-Cookie', [...others, parts.join('; ')]);
}

// writeHead(status, [reason], [headers]): the headers are set one by one, so that they can be looked at.
function takeHeaders(res, args) {
  const headers = args.find((a, i) => i > 0 && a !== null && typeof a === 'object');
  const pairs = !headers ? []
    : !Array.isArray(headers) ? Object.entries(headers)
      : Array.isArray(headers[0]) ? headers
        : headers.flatMap((h, i) => (i % 2 === 0 ? [[h, headers[i + 1]]] : []));
  const seen = new Map();
  for (const [name, value] of pairs) {
    const known = seen.get(String(name).toLowerCase());
    seen.set(String(name).toLowerCase(), [name, known ? [known[1], value].flat() : value]);
  }
  for (const [name, value] of seen.values()) if (value !== undefined) res.setHeader(name, value);
  return args.filter((a) => a !== headers);
}

// Is the answer for somebody, or for everybody?
const isKnown = (req, session, s) => session.token !== '' || session.name !== '' || s.identified(req);

function dropOtherETags(res) {
  const etag = res.getHeader('ETag');
  if (etag === undefined || etag === versioned.get(res)) return;
  res.removeHeader('ETag');
  if (etag !== NO_ETAG) stats.etagsDropped++;
}

function writeHeaders(req, res, session, brought, s) {
  const text = session.token;
  if (text !== '' && s.header) res.setHeader(HEADER, text);
  if (text !== '' && text !== brought && s.withCookie) setCookie(req, res, s, text);
  if (!isKnown(req, session, s)) {
    if (res.getHeader('ETag') === NO_ETAG) res.removeHeader('ETag');
    return;
  }
  forbidStoring(res);
  dropOtherETags(res);
}

// Before the head goes out.
function onHead(res, fn) {
  const { writeHead } = res;
  let done = false;
  res.writeHead = function head(...args) {
    let rest = args;
    if (!done && !res._header) {
      done = true;
      rest = takeHeaders(res, args);
      res.statusCode = args[0];
      fn();
    }
    return writeHead.apply(this, rest);
  };
}

// An answer that ends before anything of it went out waits for the session's positions. Meanwhile it looks
// sent, so nobody else writes it.
function onEnd(res, session, timeout) {
  const { end, write } = res;
  let waiting = false;
  res.write = function writeUnlessEnded(...args) {
    return waiting ? false : write.apply(this, args);
  };
  res.end = function endWhenSettled(...args) {
    if (waiting) return this;
    if (this.headersSent || !session.owes) return end.apply(this, args);
    waiting = true;
    Object.defineProperty(this, 'headersSent', { configurable: true, get: () => true });
    session.settle({ timeout }).then(() => {
      delete this.headersSent;
      waiting = false;
      end.apply(this, args);
    });
    return this;
  };
}

// Express makes an ETag from the body, which says nothing about who has seen what. It makes none where there is
// one.
function onSend(req, res, session, s) {
  const { send } = res;
  if (typeof send !== 'function') return;
  res.send = function sendWithoutETag(...args) {
    const known = isKnown(req, session, s);
    if (known) dropOtherETags(this);
    if (known && this.getHeader('ETag') === undefined) this.setHeader('ETag', NO_ETAG);
    return send.apply(this, args);
  };
}

// What next() is to be told.
function nameSession(session, req, s) {
  try {
    session.name = s.sessionName(req);
    return [];
  } catch (error) {
    return [error];
  }
}

// tidemark({ secret, … }): see the README for the options.
function tidemark(options = {}) {
  const s = settingsOf(options);
  return function tidemarkMiddleware(req, res, next) {
    const session = sessionOf(req, s);
    const brought = session.token;
    req.tidemark = session;
    onHead(res, () => writeHeaders(req, res, session, brought, s));
    onEnd(res, session, s.settleTimeout);
    onSend(req, res, session, s);
    const failed = nameSession(session, req, s);
    run(session, () => next(...failed));
  };
}

// After the read: gives the answer this ETag, of versionedETag(), and says whether the client has it already.
// Then 304 has been sent, and the handler returns.
function notModified(req, res, etag) {
  if (!etag) return false;
  res.setHeader('ETag', etag);
  versioned.set(res, etag);
  if (res.getHeader('Cache-Control') === undefined) res.setHeader('Cache-Control', 'private, no-cache');
  if (!['GET', 'HEAD'].includes(req.method) || !matches(req.headers['if-none-match'], etag)) return false;
  res.statusCode = 304;
  res.end();
  return true;
}

module.exports = { tidemark, notModified };
