// SPDX-License-Identifier: PostgreSQL
//
// node-postgres: wrapClient(client), wrapPool(pool).
//
//   request ── SET tidemark.session = '…' ─────▶ router      only if the connection has another name
//           ── SET tidemark.read_after = '…' ──▶             only if this connection was not told yet
//           ── the statement ──────────────────▶
//           ◀─ ParameterStatus tidemark.token ──             merged into the session when the statement ends
//
// The SET goes out in front of the first statement that needs it, and statements wait for it in their order. In front
// of BEGIN, therefore, and not inside a transaction: that runs on the primary anyway. If the router refuses the SET,
// the connection is closed, and the statement behind it fails: answering it without would be a stale read.
//
// A name changes only while nothing else is under way, so that each report is known to be of one name. Inside a
// transaction it does change, if the request's does: the router counts the transaction for both.
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
  #named = false; // by the application: nobody knows which report is of which session
  #name = ''; // that we gave it; null when the application may have changed it
  #naming = false;
  #byStartup;
  #transaction = 'I';
  #busy = false;
  #running = false; // a statement of the application's has not been answered
  #closed = false;
  #own = 0; // statements of our own that are under way
  #held = []; // the application's, which wait for them
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
    client.once('end', () => {
      this.#closed = true;
      this.#running = false;
      this.#rest();
      this.#goOn();
    });
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
    const args = rest.map((a) => (typeof a === 'function' ? AsyncResource.bind(a) : a));
    const text = (typeof config === 'string' ? config : config && config.text) || '';
    const session = current();
    const name = session ? session.name : '';
    const job = { session, name, text, told: false, begin: () => this.#query(config, ...args) };
    this.#busy = true;
    if (this.#own === 0 && this.#held.length === 0 && !this.#waits(job)) return this.#begin(job);
    return this.#hold(job, config, args);
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
      this.#send({ text: 'SHOW tidemark.token', rowMode: 'array' }, (error, result) => {
        if (!error && result.rows.length === 1) this.#reported(result.rows[0][0]);
        resolve();
      });
    });
  }

  #begin(job) {
    this.#running = true;
    if (job.session) this.#sessions.add(job.session);
    const result = job.begin();
    if (CHANGES_SESSION.test(job.text)) this.#sessionChanges();
    return result;
  }

  // What client.query() returns: the query itself if it submits itself, nothing with a callback, else a promise.
  #hold(job, config, args) {
    const { begin } = job;
    this.#held.push(job);
    if (config && typeof config.submit === 'function') return config;
    if (args.some((a) => typeof a === 'function') || (config && typeof config.callback === 'function')) return undefined;
    return new Promise((resolve, reject) => {
      job.begin = () => begin().then(resolve, reject);
    });
  }

  #goOn() {
    while (this.#held.length > 0 && this.#own === 0 && !this.#waits(this.#held[0])) this.#begin(this.#held.shift());
  }

  #send(statement, callback) {
    this.#own++;
    this.#query(statement, (error, result) => {
      this.#own--;
      callback(error, result);
      this.#goOn();
    });
  }

  #waits(job) {
    return this.#rename(job) || this.#tell(job);
  }

  // Gives the connection the name of this statement's session. True if the statement has to wait for it. Where nobody
  // ever had a name, the application's own SET stands. In a failed transaction everything is refused.
  #rename({ name }) {
    if (name === this.#name || (name === '' && !this.#naming) || this.#closed || this.#transaction === 'E') return false;
    if (this.#running) return true;
    this.#naming = true;
    this.#name = name;
    this.life = {};
    this.#known = null;
    this.owes = false;
    this.#send(`SET tidemark.session = '${name.replaceAll("'", "''")}'`, (error) => {
      if (!error) return;
      this.#name = null;
      if (this.#transaction !== 'E') this.#close();
    });
    return true;
  }

  // Tells the connection what the session of this statement has seen. True if the statement has to wait for it.
  #tell(job) {
    if (!job.session || job.told || this.#closed || this.#transaction !== 'I') return false;
    const entries = job.session.missing(this);
    if (entries.length === 0) return false;
    job.told = true;
    const { life } = this;
    for (const e of entries) e.sent.set(life, Infinity);
    this.#send(`SET tidemark.read_after = '${entries.map((e) => e.text).join(',')}'`, (error) => {
      for (const e of entries) {
        if (error) e.sent.delete(life);
        else e.sent.set(life, this.reports);
      }
      // Inside a failed transaction everything is refused, the statement behind it too.
      if (error && this.#transaction !== 'E') this.#close();
    });
    return true;
  }

  #close() {
    this.#closed = true;
    this.#client.end().catch(() => {});
    this.#client.connection.stream.destroy();
  }

  #askForReports() {
    this.#send(`SET ${REPORT} = on`, (error) => error && this.#close());
  }

  #sessionChanges() {
    this.life = {};
    this.changing = true;
    this.#named = true;
    this.#name = null;
    this.#known = null;
    if (!this.#byStartup) this.#askForReports();
  }

  // The empty text says that there will be no more reports: nobody knows then what a statement has seen.
  #reported(given) {
    const texts = token.split(given);
    const text = texts.length === 1 ? texts[0] : token.PRIMARY;
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
    this.#running = false;
    this.changing = false;
    this.#sessions.clear();
    if (this.#held.length === 0) this.#rest();
    else this.#goOn();
  }

  #rest() {
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
