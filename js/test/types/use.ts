// SPDX-License-Identifier: PostgreSQL
//
// Compiled, not run: what an application in TypeScript writes.
import { Client, Pool } from 'pg';
import tidemarkPackage, {
  Session, mergePayloads, notModified, runJob, session, stats, tidemark, tidemarkAxios, tidemarkFetch, token,
  versionedETag, withToken, wrapClient, wrapPool,
} from 'tidemark';
import type { IncomingMessage, ServerResponse } from 'node:http';

const pool: Pool = wrapPool(new Pool());
const client: Client = wrapClient(new Client());
const middleware = tidemark({ secret: ['0123456789abcdef'], cookie: { secure: true }, settleTimeout: 50, sessionName: (req) => req.user?.id as number | undefined });

export async function handler(req: IncomingMessage, res: ServerResponse): Promise<void> {
  middleware(req, res, () => {});
  const rows = (await pool.query<{ version: string }>('SELECT version FROM t')).rows;
  const etag: string | null = await versionedETag(rows[0], { weak: true });
  if (notModified(req, res, etag)) return;
  const f: typeof fetch = tidemarkFetch(fetch, { hosts: ['api.internal:8080'] });
  await f('http://api.internal:8080/');
  const seen: string | undefined = req.tidemark?.token ?? session.current()?.token;
  const job: { user: number; _readAfter?: string } = await withToken({ user: 1 });
  const n: number = runJob(job, (p) => p.user);
  mergePayloads(job, job);
  const s = new Session(seen, { keys: token.parseKeys('1:00'), name: 'u1' });
  s.name = 42;
  const name: string = s.name;
  await session.run(s, async () => client.query('SELECT 1'));
  const verdict: 'ok' | string = token.verify(s.token, []).verdict;
  const position: bigint | undefined = token.parse(s.token)?.branches[0]?.position;
  res.end(String([n, name, verdict, position, stats.etagsDropped, tidemarkPackage.token.PRIMARY]));
}

// @ts-expect-error the hosts must be named
tidemarkFetch(fetch, {});
// @ts-expect-error a name is no promise
tidemark({ cookie: false, sessionName: async () => 'u1' });
// @ts-expect-error a position is no number
token.union({ primary: false, issued: 0, branches: [{ cluster: 1, timeline: 1, fork: 0, position: 1 }] }, token.parse('')!);
tidemarkAxios({ interceptors: {}, getUri: () => '' }, { hosts: ['a'] });
