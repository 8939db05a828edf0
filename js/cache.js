// SPDX-License-Identifier: PostgreSQL
//
// What caches may do with the answers to a known user: docs/http.md says why.
'use strict';

const { current } = require('./session');

const NOT_STORED = 'private, no-store';
const FOR_CDNS = ['CDN-Cache-Control', 'Surrogate-Control'];
const REFUSED = new Set(['public', 's-maxage', 'stale-while-revalidate', 'stale-if-error']);

const stats = { cacheControlReplaced: 0, etagsDropped: 0 };
const warned = new Set();

function warnOnce(directive) {
  if (warned.has(directive)) return;
  warned.add(directive);
  process.emitWarning(
    `${directive} on the answer to a known user was replaced by Cache-Control: ${NOT_STORED}`,
    { type: 'TidemarkWarning', code: 'TIDEMARK_CACHE_CONTROL' });
}

// The names of the directives of a Cache-Control header.
function directives(header) {
  return header.toLowerCase().replace(/"[^"]*"/g, '').split(',').map((d) => d.split('=')[0].trim()).filter(Boolean);
}

// What the header becomes in the answer to a known user.
function cacheControlFor(header) {
  if (header === undefined || header === null || header === '') return NOT_STORED;
  const given = directives(String(header));
  const refused = given.find((d) => REFUSED.has(d));
  if (refused) {
    stats.cacheControlReplaced++;
    warnOnce(refused);
    return NOT_STORED;
  }
  if (given.includes('private') || given.includes('no-store')) return String(header);
  return `private, ${header}`;
}

// The same for the headers of an answer.
function forbidStoring(res) {
  for (const name of FOR_CDNS) {
    if (res.getHeader(name) === undefined) continue;
    res.removeHeader(name);
    stats.cacheControlReplaced++;
    warnOnce(name);
  }
  res.setHeader('Cache-Control', cacheControlFor(res.getHeader('Cache-Control')));
}

// ---- versioned ETags

const ETAG_CHARS = /^[\x21\x23-\x7e]+$/;

// The ETag of what was read: `version` is the row's version, or the row, which has it in its column `version`.
// Resolves to null where the history that the read has seen is not known: then send no ETag.
//   epoch    instead of the session's own, for several clusters
//   variant  what else makes the text of the answer: the build, the language
async function versionedETag(version, { epoch, variant, weak = false } = {}) {
  const session = current();
  if (epoch === undefined && session) {
    await session.settle();
    epoch = session.epoch;
  }
  const number = version !== null && typeof version === 'object' ? version.version : version;
  if (epoch === undefined || epoch === null || number === undefined || number === null) return null;
  const value = [epoch, number, variant].filter((v) => v !== undefined).join('-');
  if (!ETAG_CHARS.test(value)) throw new TypeError(`"${value}" cannot stand in an ETag`);
  return `${weak ? 'W/' : ''}"${value}"`;
}

const opaque = (etag) => etag.replace(/^W\//, '');

// Does If-None-Match name this ETag? Only to be asked after the read. "*" does not count: it would match what
// nobody compared.
function matches(ifNoneMatch, etag) {
  if (!ifNoneMatch || !etag) return false;
  const given = ifNoneMatch.match(/(?:W\/)?"[^"]*"/g) || [];
  return given.some((g) => opaque(g) === opaque(etag));
}

module.exports = { cacheControlFor, forbidStoring, versionedETag, matches, stats };
