// SPDX-License-Identifier: PostgreSQL
//
// From service to service: tidemarkFetch() and tidemarkAxios() send the session's token along as X-Read-After and
// take in the one that comes back. To the named hosts only: a token tells how much is written to the database,
// and what a stranger answers must not send this session to the primary. A redirect to another host goes on
// without it.
'use strict';

const { current } = require('./session');

const HEADER = 'X-Read-After';
const REDIRECTS_MAX = 20;
const CREDENTIALS = ['authorization', 'cookie', 'proxy-authorization'];

// hosts: "api.internal", "api.internal:8080" or "https://api.internal". Without a port it is the scheme's own.
function allowList(hosts) {
  if (!Array.isArray(hosts) || hosts.length === 0 || hosts.includes('*'))
    throw new TypeError('tidemark: hosts must name the hosts that may see the token');
  const allowed = new Set(hosts.map((h) => h.toLowerCase()));
  return (url) => ['http:', 'https:'].includes(url.protocol) && (allowed.has(url.origin) || allowed.has(url.host));
}

function urlOf(input) {
  try {
    return new URL(typeof input === 'object' && 'url' in input ? input.url : String(input));
  } catch {
    return null; // fetch() will say so
  }
}

// ---- fetch

function isReplayable(body) {
  return body === undefined || body === null || typeof body === 'string' || ArrayBuffer.isView(body) ||
    body instanceof URLSearchParams || body instanceof FormData || body instanceof Blob;
}

// The next request of a redirect, as the Fetch standard has it; null if there is none.
function redirected(response, url, init) {
  const location = [301, 302, 303, 307, 308].includes(response.status) && response.headers.get('location');
  if (!location) return null;
  const next = { url: new URL(location, url), init: { ...init, headers: new Headers(init.headers) } };
  const method = (init.method || 'GET').toUpperCase();
  const becomesGet = response.status === 303 ? !['GET', 'HEAD'].includes(method)
    : response.status < 303 && method === 'POST';
  if (becomesGet) {
    next.init.method = 'GET';
    delete next.init.body;
    for (const name of ['content-type', 'content-length', 'content-encoding']) next.init.headers.delete(name);
  } else if (!isReplayable(init.body)) {
    throw new TypeError('tidemark: a request whose body is a stream was redirected');
  }
  if (next.url.origin !== url.origin) for (const name of CREDENTIALS) next.init.headers.delete(name);
  return next;
}

function initOf(input, init = {}) {
  if (typeof input !== 'object' || !('url' in input)) return { ...init };
  const { method, headers, body, signal, redirect, credentials, cache, mode, referrer, keepalive } = input;
  const own = { method, headers, signal, redirect, credentials, cache, mode, referrer, keepalive };
  if (body) Object.assign(own, { body, duplex: 'half' });
  return { ...own, ...init };
}

// fetch() that carries the token of the running session.
function tidemarkFetch(fetch = globalThis.fetch, { hosts, settleTimeout } = {}) {
  const isAllowed = allowList(hosts);

  async function once(session, url, init) {
    const headers = new Headers(init.headers);
    headers.delete(HEADER);
    if (!isAllowed(url)) return fetch(url, { ...init, headers });
    await session.settle({ timeout: settleTimeout });
    if (session.token !== '') headers.set(HEADER, session.token);
    const response = await fetch(url, { ...init, headers });
    session.merge(response.headers.get(HEADER) ?? '');
    return response;
  }

  return async function fetchWithToken(input, init) {
    const session = current();
    let url = urlOf(input);
    if (!session || !url || !isAllowed(url)) return fetch(input, init);
    let request = initOf(input, init);
    if ((request.redirect ?? 'follow') !== 'follow') return once(session, url, request);
    for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
      const response = await once(session, url, { ...request, redirect: 'manual' });
      const next = redirected(response, url, request);
      if (!next) return response;
      if (response.body) await response.body.cancel();
      ({ url, init: request } = next);
    }
    throw new TypeError('tidemark: too many redirects');
  };
}

// ---- axios

function dropHeader(headers, name) {
  for (const key of Object.keys(headers || {})) if (key.toLowerCase() === name.toLowerCase()) delete headers[key];
}

// Adds interceptors to an instance of axios, and returns it.
function tidemarkAxios(instance, { hosts, settleTimeout } = {}) {
  const isAllowed = allowList(hosts);

  function take(response) {
    const session = current();
    const answered = response && response.request && response.request.res && response.request.res.responseUrl;
    const url = response && urlOf(answered || instance.getUri(response.config));
    const text = response && response.headers && response.headers[HEADER.toLowerCase()];
    if (session && url && isAllowed(url) && text) session.merge(String(text));
  }

  instance.interceptors.request.use(async (config) => {
    const session = current();
    const url = urlOf(instance.getUri(config));
    if (!session || !url || !isAllowed(url)) return config;
    await session.settle({ timeout: settleTimeout });
    if (session.token !== '') config.headers.set(HEADER, session.token);
    const { beforeRedirect } = config;
    config.beforeRedirect = (options, ...rest) => {
      const to = urlOf(options.href);
      if (!to || !isAllowed(to)) dropHeader(options.headers, HEADER);
      if (beforeRedirect) beforeRedirect(options, ...rest);
    };
    return config;
  });
  instance.interceptors.response.use(
    (response) => {
      take(response);
      return response;
    },
    (error) => {
      take(error && error.response);
      throw error;
    });
  return instance;
}

module.exports = { tidemarkFetch, tidemarkAxios };
