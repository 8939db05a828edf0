// SPDX-License-Identifier: PostgreSQL
/// <reference types="node" />
import type { IncomingMessage, ServerResponse } from 'node:http';

export interface Branch {
  cluster: bigint;
  timeline: number;
  fork: bigint;
  position: bigint;
}

/** What a token says; unverified unless verify() gave it. */
export interface Token {
  primary: boolean;
  bound: boolean;
  keyId: number | null;
  issued: number;
  branches: Branch[];
}

export type Content = Pick<Token, 'primary' | 'issued' | 'branches'>;

export interface Key {
  id: number;
  secret: Buffer;
}

export type Verdict = 'ok' | 'malformed' | 'forged' | 'bound' | 'expired' | 'future' | 'primary';

export interface VerifyOptions {
  session?: string;
  now?: number;
  ttl?: number;
}

export interface Judged {
  verdict: Verdict;
  token: Content;
}

export declare const token: {
  PRIMARY: 'primary';
  BRANCHES_MAX: number;
  LIST_MAX: number;
  TEXT_MAX: number;
  LIST_TEXT_MAX: number;
  parseKeys(text: string | string[]): Key[];
  parse(text: string): Token | null;
  verify(text: string, keys: Key[], options?: VerifyOptions): Judged;
  verifyList(list: string, keys: Key[], options?: VerifyOptions): Judged;
  union(a: Content, b: Content): Content;
  sign(token: Content, keys: Key[], session?: string): string;
  split(text: string | null | undefined): string[];
  merge(texts: string[], options?: VerifyOptions & { keys?: Key[] }): string;
  covers(a: Content, b: Content): boolean;
};

export interface SessionOptions {
  trusted?: boolean;
  keys?: Key[] | null;
  name?: SessionName;
}

/** null, undefined and '' mean none. */
export type SessionName = string | number | bigint | null | undefined;

export declare class Session {
  constructor(text?: string, options?: SessionOptions);
  readonly token: string;
  get name(): string;
  set name(value: SessionName);
  readonly owes: boolean;
  readonly epoch: string | null;
  merge(text: string, options?: { trusted?: boolean }): void;
  settle(options?: { timeout?: number }): Promise<void>;
}

export declare const session: {
  Session: typeof Session;
  SETTLE_TIMEOUT_MS: number;
  run<T>(session: Session | string, fn: () => T, options?: SessionOptions): T;
  current(): Session | undefined;
};

/** A Client or a Pool of node-postgres; it is changed, and returned. */
export declare function wrapClient<C extends { query: (...args: any[]) => any }>(client: C): C;
export declare function wrapPool<P extends { query: (...args: any[]) => any; connect: (...args: any[]) => any }>(pool: P): P;

export interface MiddlewareOptions {
  /** Signs the cookies, 16 characters or more; of several the first signs and all are accepted. */
  secret?: string | string[];
  cookie?: false | {
    name?: string;
    path?: string;
    domain?: string;
    maxAge?: number;
    secure?: boolean | 'auto';
  };
  header?: boolean;
  keys?: string | string[];
  settleTimeout?: number;
  /** The router's session that the request's statements belong to. */
  sessionName?: (req: any) => SessionName;
  identified?: (req: any) => boolean;
}

declare module 'http' {
  interface IncomingMessage {
    tidemark?: Session;
  }
}

export declare function tidemark(
  options?: MiddlewareOptions,
): (req: any, res: any, next: (error?: any) => void) => void;

export declare function notModified(req: IncomingMessage, res: ServerResponse, etag: string | null): boolean;

export declare function versionedETag(
  version: string | number | bigint | { version: string | number | bigint } | null | undefined,
  options?: { epoch?: string; variant?: string; weak?: boolean },
): Promise<string | null>;

export declare const stats: { cacheControlReplaced: number; etagsDropped: number };

export interface ForwardOptions {
  /** "api.internal", "api.internal:8080" or "https://api.internal". */
  hosts: string[];
  settleTimeout?: number;
}

export declare function tidemarkFetch(fetch: typeof globalThis.fetch | undefined, options: ForwardOptions): typeof globalThis.fetch;
export declare function tidemarkAxios<A extends { interceptors: any; getUri: any }>(instance: A, options: ForwardOptions): A;

export declare function withToken<P extends object>(payload: P): Promise<P & { _readAfter?: string }>;
export declare function runJob<P, T>(payload: P, fn: (payload: P) => T, options?: SessionOptions): T;
export declare function mergePayloads<A extends object, B extends object>(a: A, b: B): A & B & { _readAfter?: string };
