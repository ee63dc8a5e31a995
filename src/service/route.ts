import type { z } from 'zod';
import type { Principal, Rule } from './access.ts';
import type { ServiceErrorCode } from './problem.ts';
import type { Service } from './service.ts';

export const METHODS = ['GET', 'POST', 'PUT', 'DELETE'] as const;
export type Method = (typeof METHODS)[number];

/** What a handler gets: everything in it was checked. */
export interface Call<Q = unknown, B = unknown> {
  readonly service: Service;
  readonly request: Request;
  readonly requestId: string;
  readonly path: { readonly [name in 'org' | 'run' | 'task' | 'operator' | 'port']?: string };
  readonly query: Q;
  readonly body: B;
  /** The org that the token was checked for; empty where the rule asks for no token. */
  readonly org: string;
  readonly principal: Principal | null;
  /** Fires when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** A handler answers with a value for JSON, or with a response of its own making. */
export type Answer =
  | { readonly status?: number; readonly json: unknown; readonly headers?: Record<string, string> }
  | Response;

export interface MediaType {
  readonly type: string;
  /** Left out: bytes. */
  readonly schema?: z.ZodType;
}

export interface RouteDefinition<Q extends z.ZodType, B extends z.ZodType> {
  readonly method: Method;
  /** With `{org}`, `{run}`, `{task}`, `{operator}` and `{port}`. */
  readonly path: string;
  /** Required: a route without a rule does not compile, and test/service/rules.test.ts walks the table. */
  readonly rule: Rule;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly query?: Q;
  /** `largest`: which limit bounds it. */
  readonly body?: {
    readonly schema: B;
    readonly largest?: 'bodyBytesMax' | 'eventsBytesMax';
    readonly optional?: boolean;
  };
  /** The body is bytes of this type, which the handler reads itself: see rawBody. */
  readonly raw?: { readonly type: string; readonly description: string };
  readonly answers: Readonly<
    Record<number, { readonly description: string; readonly content?: readonly MediaType[] }>
  >;
  readonly errors?: readonly ServiceErrorCode[];
  /** That the handler looks at, besides those that its answers imply: see openapi.ts. */
  readonly headers?: readonly ('Cache-Control' | 'Idempotency-Key')[];
  /** Waits on purpose: has its own bounds instead of the request deadline and the org's places. */
  readonly waits?: boolean;
  readonly handle: (call: Call<z.infer<Q>, z.infer<B>>) => Promise<Answer>;
}

export type Route = RouteDefinition<z.ZodType, z.ZodType>;

/** Keeps the types of query and body between schema and handler. */
export function route<Q extends z.ZodType, B extends z.ZodType>(definition: RouteDefinition<Q, B>): Route {
  return definition as unknown as Route;
}

export function json(schema: z.ZodType): MediaType {
  return { type: 'application/json', schema };
}
