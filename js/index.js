// SPDX-License-Identifier: PostgreSQL
'use strict';

const token = require('./token');
const session = require('./session');
const { wrapClient, wrapPool } = require('./pg');
const { tidemark, notModified } = require('./express');
const { versionedETag, stats } = require('./cache');
const { tidemarkFetch, tidemarkAxios } = require('./forward');
const { withToken, runJob, mergePayloads } = require('./jobs');

module.exports = {
  token, session, Session: session.Session,
  wrapClient, wrapPool,
  tidemark, notModified, versionedETag, stats,
  tidemarkFetch, tidemarkAxios,
  withToken, runJob, mergePayloads,
};
