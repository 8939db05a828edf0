// SPDX-License-Identifier: PostgreSQL
//
// A router as node-postgres sees one, for tests without a network: it speaks the simple protocol over a pair of
// streams, reports what it is told to report, and writes down what came.
'use strict';

const { Duplex } = require('node:stream');
const token = require('../token');

const KEYS = token.parseKeys(`1:${'11'.repeat(32)}`);

// A signed token of cluster 1 at a position.
function at(position, { cluster = 1n, timeline = 1 } = {}) {
  return token.sign({
    primary: false, issued: 1000,
    branches: [{ cluster, timeline, fork: timeline === 1 ? 0n : 7n, position: BigInt(position) }],
  }, KEYS);
}

const OWED = token.sign({ primary: true, issued: 1000, branches: [] }, KEYS);

function message(type, ...parts) {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

const text = (s) => Buffer.from(`${s}\0`);
const int = (n, bytes) => {
  const b = Buffer.alloc(bytes);
  b.writeIntBE(n, 0, bytes);
  return b;
};

class FakeRouter {
  statements = [];
  startup = [];
  connections = 0;
  ended = 0;
  // statement -> { report, rows, error } of its answer, or a promise of it
  answer = () => ({});

  // For node-postgres' option `stream`.
  stream = () => new FakeStream(this);
}

class FakeStream extends Duplex {
  #router;
  #input = Buffer.alloc(0);
  #status = 'I';
  #started = false;
  #work = Promise.resolve();

  constructor(router) {
    super();
    this.#router = router;
  }

  setNoDelay() {}
  setKeepAlive() {}
  ref() {}
  unref() {}

  connect() {
    this.#router.connections++;
    process.nextTick(() => this.emit('connect'));
    return this;
  }

  _read() {}

  _destroy(error, done) {
    this.#router.ended++;
    done(error);
  }

  _write(chunk, encoding, done) {
    this.#input = Buffer.concat([this.#input, chunk]);
    while (this.#take());
    done();
  }

  #take() {
    const head = this.#started ? 1 : 0;
    if (this.#input.length < head + 4) return false;
    const length = head + this.#input.readInt32BE(head);
    if (this.#input.length < length) return false;
    const type = String.fromCharCode(this.#input[0]);
    const body = this.#input.subarray(head + 4, length);
    this.#input = this.#input.subarray(length);
    if (!this.#started) this.#start(body);
    else if (type === 'Q') this.#work = this.#work.then(() => this.#query(body.toString('utf8', 0, body.length - 1)));
    else if (type === 'X') this.push(null);
    else throw new Error(`the fake router does not know message ${type}`);
    return true;
  }

  #start(body) {
    this.#started = true;
    this.#router.startup.push(body.toString('utf8', 4).split('\0'));
    this.push(Buffer.concat([message('R', int(0, 4)), this.#ready()]));
  }

  #ready() {
    return message('Z', Buffer.from(this.#status));
  }

  async #query(sql) {
    this.#router.statements.push(sql);
    const { report, rows = [], error } = await this.#router.answer(sql);
    if (this.destroyed) return;
    const out = [];
    if (error) {
      if (this.#status === 'T') this.#status = 'E';
      out.push(message('E', text('SERROR'), text('C25P02'), text(`M${error}`), Buffer.from([0])));
    } else {
      if (/^begin/i.test(sql)) this.#status = 'T';
      if (/^(commit|rollback)/i.test(sql)) this.#status = 'I';
      if (rows.length) {
        out.push(message('T', int(1, 2), text('v'), int(0, 4), int(0, 2), int(25, 4), int(-1, 2), int(-1, 4), int(0, 2)));
        for (const v of rows) out.push(message('D', int(1, 2), int(Buffer.byteLength(v), 4), Buffer.from(v)));
      }
      out.push(message('C', text('OK')));
    }
    if (report !== undefined) out.push(message('S', text('tidemark.token'), text(report)));
    this.push(Buffer.concat([...out, this.#ready()]));
  }
}

module.exports = { FakeRouter, KEYS, OWED, at };
