// SPDX-License-Identifier: PostgreSQL
import tidemarkPackage from './index.js';

export const {
  token, session, Session,
  wrapClient, wrapPool,
  tidemark, notModified, versionedETag, stats,
  tidemarkFetch, tidemarkAxios,
  withToken, runJob, mergePayloads,
} = tidemarkPackage;
export default tidemarkPackage;
