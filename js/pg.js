// SPDX-License-Identifier: PostgreSQL
//
// node-postgres: wrapClient(client), wrapPool(pool).
//
//   request ── SET tidemark.read_after = '…' ──▶ router      only if this connection was not told yet
//           ── the statement ──────────────────▶
//           ◀─ ParameterStatus tidemark.token ──             merged into the session when the statement ends
//
// The SET goes out in front of the first statement that needs it, in the client's own queue, so nothing that
// was queued can overtake it. In front of BEGIN, therefore, and not inside a transaction: that runs on the
// primary anyway. If the router refuses the SET, the connection is closed, and the statement behind it fails:
// answering it without would be a stale read.
'use strict';

const { AsyncResource } = require('node:async_hooks');
const token = require('./token');
const { current } = require('./session');

const wrapped = new WeakMap();
const REPORT = 'tidemark.report';

// After these the connection has another session of the router's, which was told nothing.
const CHANGES_SESSION = /tidemark\.session|\b(?:reset|discard)\s+all\b/i;

class Connection {
  report = null; // the last token that came
  reports = 0;
  owes = false; // the router does not know yet how far the last statement has seen
  life = {}; // replaced when all that was told is void
  changing = false; // … and reports may still come that do not know that
  #client;
  #query;
  #known = null; // the last report that says how far, parsed
  #named = false;
  #byStartup;
  #transaction = 'I';
  #busy = false;
  #sessions = new Set(); // those whose statements are under way
  #settling = null;
  #idle = []; // who waits for the connection to have nothing to do

  constructor(client) {
    this.#client = client;
    this.#query = client.query.bind(client);
    this.#byStartup = !client._connected && !client._connecting;
    const c = client.connection;
    c.on('parameterStatus', (m) => m.parameterName === 'tidemark.token' && this.#reported(m.parameterValue));
    // In front of the client's own listener, which calls back the application.
    c.prependListener('readyForQuery', (m) => this.#ready(m.status));
    client.on('drain', () => this.#drained());
    client.once('end', () => this.#drained());
    if (this.#byStartup) {
      const p = client.connectionParameters;
      p.options = `${p.options ? `${p.options} ` : ''}-c ${REPORT}=on`;
    } else {
      this.#askForReports();
    }
  }

  // Has the router's session behind this connection seen all of that?
  covers(parsed) {
    return !this.#named && this.#known !== null && token.covers(this.#known, parsed);
  }

  run(config, ...rest) {
    const session = current();
    const text = (typeof config === 'string' ? config : config && config.text) || '';
    if (session) {
      if (this.#transaction === 'I') this.#tell(session);
      this.#sessions.add(session);
    }
    this.#busy = true;
    const result = this.#query(config, ...rest.map((a) => (typeof a === 'function' ? AsyncResource.bind(a) : a)));
    if (CHANGES_SESSION.test(text)) this.#sessionChanges();
    return result;
  }

  // Asks how far has been seen, once the connection has nothing else to do. Never rejects.
  settle() {
    if (!this.owes) return Promise.resolve();
    this.#settling ||= this.#show().finally(() => {
      this.#settling = null;
    });
    return this.#settling;
  }

  async #show() {
    if (this.#busy) await new Promise((resolve) => this.#idle.push(resolve));
    if (!this.owes) return;
    await new Promise((resolve) => {
      this.#query({ text: 'SHOW tidemark.token', rowMode: 'array' }, (error, result) => {
        if (!error && result.rows.length === 1) this.#reported(result.rows[0][0]);
        resolve();
      });
    });
  }

  #tell(session) {
    const entries = session.missing(this);
    if (entries.length === 0) return;
    const { life } = this;
    for (const e of entries) e.sent.set(life, Infinity);
    const list = entries.map((e) => e.text).join(',');
    this.#query(`SET tidemark.read_after = '${list}'`, (error) => {
      for (const e of entries) {
        if (error) e.sent.delete(life);
        else e.sent.set(life, this.reports);
      }
      // Inside a failed transaction everything is refused, the statement behind it too.
      if (error && this.#transaction !== 'E') this.#close();
    });
  }

  #close() {
    this.#client.end().catch(() => {});
    this.#client.connection.stream.destroy();
  }

  #askForReports() {
    this.#query(`SET ${REPORT} = on`, (error) => error && this.#close());
  }

  #sessionChanges() {
    this.life = {};
    this.changing = true;
    this.#named = true;
    this.#known = null;
    if (!this.#byStartup) this.#askForReports();
  }

  #reported(text) {
    const parsed = token.parse(text);
    this.report = text;
    this.reports++;
    this.owes = parsed !== null && parsed.primary;
    if (parsed && !parsed.primary) this.#known = parsed;
  }

  #ready(status) {
    this.#transaction = status;
    for (const session of this.#sessions) session.absorb(this);
  }

  #drained() {
    this.#busy = false;
    this.changing = false;
    this.#sessions.clear();
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}

// Makes a client of node-postgres, connected or not, carry the tokens of the sessions that use it.
function wrapClient(client) {
  if (wrapped.has(client)) return client;
  if (!client.connection || typeof client.connection.prependListener !== 'function')
    throw new TypeError('tidemark: this is not a client of node-postgres (pg-native cannot report tokens)');
  const connection = new Connection(client);
  wrapped.set(client, connection);
  client.query = (...args) => connection.run(...args);
  return client;
}

// A read that was answered on another connection of the pool, and of which nobody knows yet how far it has
// seen, would have to go to the primary here. Asking first is cheaper.
function owesElsewhere(session, client) {
  return session !== undefined && session.owesElsewhere(wrapped.get(client));
}

// Makes a pool do so, with every client it has and will have. Its connections are shared by the users of
// the application: what the router reports on one covers what all of them have seen there. That is more than
// a user needs, so it costs waiting now and then, and never shows anything older.
function wrapPool(pool) {
  if (wrapped.has(pool)) return pool;
  wrapped.set(pool, true);
  const Base = pool.Client;
  pool.Client = class extends Base {
    constructor(...args) {
      super(...args);
      wrapClient(this);
    }
  };
  for (const client of pool._clients || []) wrapClient(client);

  const connect = pool.connect.bind(pool);
  pool.connect = (callback) => {
    const session = current();
    if (typeof callback !== 'function') {
      return connect().then(async (client) => {
        if (owesElsewhere(session, client)) await session.settle({ except: wrapped.get(client) });
        return client;
      });
    }
    // The pool calls back from whatever request gave a client back.
    const done = AsyncResource.bind(callback);
    return connect((error, client, release) => {
      if (error || !owesElsewhere(session, client)) return done(error, client, release);
      return session.settle({ except: wrapped.get(client) }).then(() => done(error, client, release));
    });
  };
  return pool;
}

module.exports = { wrapClient, wrapPool };
