// SPDX-License-Identifier: PostgreSQL
//
// What one request (or job) has seen: a set of tokens, which travels with its asynchronous calls.
//
// A token comes from outside (a header, a cookie, a payload) or from a connection to a router, which reports
// one with its answers. What a connection reports covers what that connection was told before; so a report
// *replaces* those tokens instead of piling up beside them, and a session that had to say "primary" becomes
// precise again. What the connection was not told, or what concerns another cluster, stays.
//
// After some statements (COPY, several in one text) a router does not know at once how far they have seen, and reports that
// only: the connection *owes*. The session then says "primary" wherever its token leaves the process, unless settle() asks the
// connections first; the router answers as soon as it has a sample that tells.
'use strict';

const { AsyncLocalStorage } = require('node:async_hooks');
const { createHash } = require('node:crypto');
const token = require('./token');

const SETTLE_TIMEOUT_MS = 100;
const NAME_MAX = 127; // bytes; the router refuses longer ones
const scope = new AsyncLocalStorage();

function isConcrete(parsed) {
  return parsed !== null && !parsed.primary;
}

// What cannot be a name as it is goes by its digest: whoever has a strange name shall not see errors.
function nameOf(value) {
  if (value === undefined || value === null) return '';
  if (!['string', 'number', 'bigint'].includes(typeof value))
    throw new TypeError(`tidemark: a session's name is a text or a number, not ${typeof value}`);
  const name = String(value);
  if (Buffer.byteLength(name) <= NAME_MAX && !name.includes('\0')) return name;
  return createHash('sha256').update(name).digest('base64url');
}

// Is some of this about a cluster of which the report says nothing?
function concernsOthers(parsed, report) {
  if (!isConcrete(parsed) || report === null) return false;
  return parsed.branches.some((b) => !report.branches.some((r) => r.cluster === b.cluster));
}

class Session {
  // text -> { text, parsed, trusted, sent }. `sent` has, for each connection that was told this token, how many
  // reports it had made by then; Infinity while it is being told.
  #entries = new Map();
  #owing = new Map(); // connection -> its life when it began to owe
  #keys;
  #name = '';

  // text: one token or a list. Trusted is what only a router, or this application, can have made; with keys, what is
  // verified.
  constructor(text = '', { trusted = false, keys = null, name } = {}) {
    this.#keys = keys;
    this.name = name;
    this.merge(text, { trusted });
  }

  // The router's session that the statements from now on belong to; "" for that of the scope.
  get name() {
    return this.#name;
  }

  set name(value) {
    this.#name = nameOf(value);
  }

  // Takes in what somebody else has seen. What cannot be a token counts as "primary".
  merge(text, { trusted = false } = {}) {
    for (const one of token.split(text)) {
      if (!this.#keys || trusted) this.#add(one, trusted);
      else if (token.verify(one, this.#keys).verdict === 'ok') this.#add(one, true);
      else this.#add(token.PRIMARY, false);
    }
  }

  // One token or a list; "" if the session has seen nothing.
  get token() {
    this.#refresh();
    const texts = [...this.#entries.keys()];
    if (this.#owing.size > 0) texts.push(token.PRIMARY);
    return token.merge(texts, this.#keys ? { keys: this.#keys } : {});
  }

  // Does a connection still owe how far this session has seen?
  get owes() {
    this.#refresh();
    return this.#owing.size > 0;
  }

  // The history that the session has seen, "<cluster>.<timeline>": a failover changes it. Null if that is not
  // known now, or if there are several clusters.
  get epoch() {
    if (this.owes) return null;
    const branches = [...this.#entries.values()].flatMap((e) => (e.trusted && e.parsed ? e.parsed.branches : []));
    if (new Set(branches.map((b) => b.cluster)).size !== 1) return null;
    return `${branches[0].cluster.toString(36)}.${Math.max(...branches.map((b) => b.timeline))}`;
  }

  // Waits, `timeout` ms at most, until the connections that this session used know how far it has seen. Never
  // rejects: one that does not answer is left owing, and the token says "primary".
  async settle({ timeout = SETTLE_TIMEOUT_MS, except = null } = {}) {
    this.#refresh();
    const owing = [...this.#owing.keys()].filter((c) => c !== except);
    if (owing.length === 0) return;
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, timeout);
    });
    await Promise.race([Promise.all(owing.map((c) => c.settle())), late]);
    clearTimeout(timer);
    this.#refresh();
  }

  // ---- for connections (pg.js)

  owesElsewhere(connection) {
    this.#refresh();
    return [...this.#owing.keys()].some((c) => c !== connection);
  }

  // The tokens that the connection has to be told before it may answer this session.
  missing(connection) {
    if (this.owesElsewhere(connection)) {
      for (const c of [...this.#owing.keys()]) if (c !== connection) this.#owing.delete(c);
      this.#add(token.PRIMARY, false);
    }
    return [...this.#entries.values()].filter(
      (e) => !e.sent.has(connection.life) && !(e.trusted && isConcrete(e.parsed) && connection.covers(e.parsed)));
  }

  // The connection has answered a statement of this session.
  absorb(connection) {
    if (connection.report === null) return;
    this.#refresh();
    if (connection.owes) this.#owing.set(connection, connection.life);
    else this.#supersede(connection);
  }

  #supersede(connection) {
    const report = token.parse(connection.report);
    this.#owing.delete(connection);
    for (const [text, e] of this.#entries) {
      const told = e.sent.get(connection.life);
      const covered = isConcrete(e.parsed) && report !== null && token.covers(report, e.parsed);
      const answered = told < connection.reports && !concernsOthers(e.parsed, report);
      if (answered || (covered && (e.trusted || told !== undefined))) this.#entries.delete(text);
    }
    this.#add(connection.report, true);
    if (!connection.changing) this.#entries.get(connection.report)?.sent.set(connection.life, connection.reports);
  }

  #refresh() {
    for (const [connection, life] of [...this.#owing]) {
      if (connection.life !== life) {
        // It has another session of the router's now, and will not say any more.
        this.#owing.delete(connection);
        this.#add(token.PRIMARY, false);
      } else if (!connection.owes) {
        this.#supersede(connection);
      }
    }
  }

  #add(text, trusted) {
    const known = this.#entries.get(text);
    // "primary" is about the moment it is said: it is a new one each time, which nobody has been told yet.
    if (known && (trusted || isConcrete(known.parsed))) known.trusted ||= trusted;
    else this.#entries.set(text, { text, parsed: token.parse(text), trusted, sent: new WeakMap() });
    if (this.#entries.size > token.LIST_MAX) {
      this.#entries.clear();
      this.#add(token.PRIMARY, false);
    }
  }
}

// Runs `fn` in the scope of a session, given as such or as the text of its token. Everything that `fn` starts
// belongs to it.
function run(session, fn, options) {
  return scope.run(session instanceof Session ? session : new Session(session, options), fn);
}

// The session of the running request, or undefined.
function current() {
  return scope.getStore();
}

module.exports = { Session, run, current, SETTLE_TIMEOUT_MS };
