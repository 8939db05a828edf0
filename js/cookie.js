// SPDX-License-Identifier: PostgreSQL
//
// The cookie's value: the tokens, joined by "~" since a comma may not stand in a cookie, then "." and the HMAC
// of the application's secret. The router verifies the tokens again; what this signature adds is that a
// forged cookie never gets as far as the database, and that "primary" and lists are covered too.
'use strict';

const { createHmac, timingSafeEqual } = require('node:crypto');
const token = require('./token');

const HMAC_BYTES = 16;
const VALUE_MAX = token.LIST_TEXT_MAX + 23;

function mac(secret, name, tokens) {
  return createHmac('sha256', secret).update(`tidemark cookie\0${name}\0${tokens}`).digest().subarray(0, HMAC_BYTES);
}

function seal(name, text, secrets) {
  const tokens = text.replaceAll(',', '~');
  return `${tokens}.${mac(secrets[0], name, tokens).toString('base64url')}`;
}

// The token text of a cookie's value; null if the application has not signed it.
function open(name, value, secrets) {
  const dot = value.length <= VALUE_MAX ? value.lastIndexOf('.') : -1;
  if (dot < 0) return null;
  const tokens = value.slice(0, dot);
  const given = Buffer.from(value.slice(dot + 1), 'base64url');
  const good = (secret) => given.length === HMAC_BYTES && timingSafeEqual(mac(secret, name, tokens), given);
  return secrets.some(good) ? tokens.replaceAll('~', ',') : null;
}

// All values of that name in a Cookie header.
function values(header, name) {
  return (header || '').split(';').map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${name}=`))
    .map((pair) => pair.slice(name.length + 1));
}

module.exports = { seal, open, values };
