// SPDX-License-Identifier: PostgreSQL
//
// One instance of a small application: a profile that can be edited, and the list of all profiles. `start` runs two of
// them, each behind a Tidemark router of its own, and a load balancer in front.
//
// The switch on the page chooses how it reads:
//   on     everything through Tidemark; the package carries the visitor's token from request to request
//   off    writes on the primary, reads on any standby, as many an application does it
//
// What Tidemark takes is marked with (*).
'use strict';

const express = require('express');
const { Pool } = require('pg');
const { tidemark, wrapPool, versionedETag, notModified } = require(process.env.TIDEMARK_PACKAGE || 'tidemark'); // (*)
const { page } = require('./page');

function poolOn(port) {
  const pool = new Pool({ host: '127.0.0.1', port: Number(port), user: 'app', database: 'app', max: 5 });
  pool.on('error', (error) => console.error(error.message));
  return pool;
}

// ---- the database, in both ways

const router = wrapPool(poolOn(process.env.ROUTER_PORT)); // (*)
const primary = poolOn(process.env.PRIMARY_PORT);
const standbys = process.env.STANDBY_PORTS.split(',').map((port) => poolOn(port));

const on = { read: router, write: router };
const off = {
  write: primary,
  get read() {
    return standbys[Math.floor(Math.random() * standbys.length)];
  },
};

// ---- what is asked of it

async function rename(db, id, name) {
  const { rows } = await db.write.query(
    'UPDATE profiles SET name = $2, version = version + 1 WHERE id = $1 RETURNING version', [id, name]);
  return rows[0].version;
}

async function profiles(db) {
  const { rows } = await db.read.query('SELECT id, name, version, node_name() AS node FROM profiles ORDER BY id');
  return rows;
}

// ---- the visitor's counters, in a cookie, since there are two instances: "on.PAGES.STALE.off.PAGES.STALE"

function countersOf(req) {
  const m = /(?:^|; )counters=on\.(\d{1,9})\.(\d{1,9})\.off\.(\d{1,9})\.(\d{1,9})/.exec(req.headers.cookie || '');
  const [a, b, c, d] = m ? m.slice(1).map(Number) : [0, 0, 0, 0];
  return { on: { pages: a, stale: b }, off: { pages: c, stale: d } };
}

function keepCounters(res, { on: a, off: b }) {
  res.cookie('counters', `on.${a.pages}.${a.stale}.off.${b.pages}.${b.stale}`, { sameSite: 'lax' });
}

// ---- the application

const app = express();
app.disable('x-powered-by');
app.use(express.urlencoded({ extended: false, limit: '4kb' }));
app.use(tidemark({ secret: process.env.SECRET })); // (*)

const modeOf = (value) => (value === 'off' ? 'off' : 'on');

// "Save, then refresh": the browser is sent to the page, which another instance answers.
app.post('/', async (req, res) => {
  const mode = modeOf(req.body.tidemark);
  const name = String(req.body.name || '').trim().slice(0, 60) || 'Nobody';
  const version = await rename(mode === 'on' ? on : off, 1, name);
  res.redirect(303, `/?tidemark=${mode}&saved=${version}`);
});

app.get('/', async (req, res) => {
  const mode = modeOf(req.query.tidemark);
  const people = await profiles(mode === 'on' ? on : off);
  const counters = countersOf(req);
  // The page that follows a save knows which version it must show.
  const saved = /^\d{1,15}$/.test(req.query.saved) ? BigInt(req.query.saved) : null;
  const stale = saved !== null && BigInt(people[0].version) < saved;
  if (saved !== null) {
    counters[mode].pages++;
    if (stale) counters[mode].stale++;
    keepCounters(res, counters);
  }
  res.send(page({ mode, people, counters, saved, stale, instance: process.env.INSTANCE }));
});

// For machines: revalidated by the row's version, which comes from the same read.
app.get('/profiles/:id(\\d{1,9})', async (req, res) => {
  const { rows } = await on.read.query('SELECT id, name, version FROM profiles WHERE id = $1', [req.params.id]);
  if (rows.length === 0) return res.status(404).json({ error: 'no such profile' });
  if (notModified(req, res, await versionedETag(rows[0]))) return undefined; // (*)
  return res.json(rows[0]);
});

// Express 4 does not look at promises.
process.on('unhandledRejection', (error) => {
  console.error(error);
  process.exit(1);
});

const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
