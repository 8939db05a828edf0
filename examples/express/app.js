// SPDX-License-Identifier: PostgreSQL
//
// One instance of a small application: a profile that can be edited, and the list of all profiles. `start` runs two of
// them, each behind a Tidemark router of its own, and a load balancer in front.
//
// The switch on the page chooses how it reads:
//   off      writes on the primary, reads on any standby, as many an application does it
//   token    through Tidemark; the package carries the visitor's token from request to request, in a cookie
//   session  through Tidemark; the visitor has a name, and the routers keep in Redis what that name has seen
//
// What Tidemark takes is marked with (*).
'use strict';

const { randomBytes } = require('node:crypto');
const express = require('express');
const { Pool } = require('pg');
const { tidemark, wrapPool, versionedETag, notModified } = require(process.env.TIDEMARK_PACKAGE || 'tidemark'); // (*)
const { page } = require('./page');

function poolOn(port) {
  const pool = new Pool({ host: '127.0.0.1', port: Number(port), user: 'app', database: 'app', max: 5 });
  pool.on('error', (error) => console.error(error.message));
  return pool;
}

// ---- the database, in all ways

const router = wrapPool(poolOn(process.env.ROUTER_PORT)); // (*)
const primary = poolOn(process.env.PRIMARY_PORT);
const standbys = process.env.STANDBY_PORTS.split(',').map((port) => poolOn(port));

const routed = { read: router, write: router };
const databases = {
  off: {
    write: primary,
    get read() {
      return standbys[Math.floor(Math.random() * standbys.length)];
    },
  },
  token: routed,
  session: routed,
};
const modeOf = (value) => (Object.hasOwn(databases, value) ? value : 'token');

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

// ---- the visitor, in cookies, since there are two instances

const cookieOf = (req, form) => form.exec(req.headers.cookie || '')?.slice(1);

// Whoever this is. An application that has users takes the user's id.
function visitorOf(req) {
  return cookieOf(req, /(?:^|; )visitor=(\w{22})(?:;|$)/)?.[0];
}

function welcome(req, res, next) {
  if (!visitorOf(req)) {
    const id = randomBytes(11).toString('hex');
    req.headers.cookie = [req.headers.cookie, `visitor=${id}`].filter(Boolean).join('; ');
    res.cookie('visitor', id, { httpOnly: true, sameSite: 'lax' });
  }
  next();
}

// "off.PAGES.STALE.token.PAGES.STALE.session.PAGES.STALE"
function countersOf(req) {
  const m = cookieOf(req, /(?:^|; )counters=off\.(\d{1,9})\.(\d{1,9})\.token\.(\d{1,9})\.(\d{1,9})\.session\.(\d{1,9})\.(\d{1,9})/);
  const [a, b, c, d, e, f] = m ? m.map(Number) : [0, 0, 0, 0, 0, 0];
  return { off: { pages: a, stale: b }, token: { pages: c, stale: d }, session: { pages: e, stale: f } };
}

function keepCounters(res, counters) {
  const text = Object.entries(counters).map(([mode, { pages, stale }]) => `${mode}.${pages}.${stale}`).join('.');
  res.cookie('counters', text, { sameSite: 'lax' });
}

// ---- the application

const app = express();
app.disable('x-powered-by');
app.use(express.urlencoded({ extended: false, limit: '4kb' }));
app.use(welcome);

// An application takes one of the two. The second sends no token to the browser, to show that the name suffices.
const byToken = tidemark({ secret: process.env.SECRET }); // (*)
const byName = tidemark({ cookie: false, header: false, sessionName: visitorOf }); // (*)
app.use((req, res, next) => {
  const mode = modeOf(req.body.tidemark ?? req.query.tidemark);
  return (mode === 'session' ? byName : byToken)(req, res, next);
});

// "Save, then refresh": the browser is sent to the page, which another instance answers.
app.post('/', async (req, res) => {
  const mode = modeOf(req.body.tidemark);
  const name = String(req.body.name || '').trim().slice(0, 60) || 'Nobody';
  const version = await rename(databases[mode], 1, name);
  res.redirect(303, `/?tidemark=${mode}&saved=${version}`);
});

app.get('/', async (req, res) => {
  const mode = modeOf(req.query.tidemark);
  const people = await profiles(databases[mode]);
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
  const { rows } = await routed.read.query('SELECT id, name, version FROM profiles WHERE id = $1', [req.params.id]);
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
