import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ANYWHERE } from '../../src/service/openapi.ts';
import type { OpenApi, Operation } from '../../src/service/openapi-document.ts';
import { MEANINGS } from '../../src/service/problem.ts';
import { problemSchema } from '../../src/service/schemas.ts';
import { ORG } from '../support/runs.ts';
import { type Served, serve } from './support.ts';

type Json = Record<string, unknown>;

/** Values for a schema of the document: most fit, some do not, and texts are as odd as texts can be. */
function anyOf(openapi: OpenApi, schema: Json, depth = 0): fc.Arbitrary<unknown> {
  const junk = depth > 4 ? fc.constant(null) : fc.jsonValue({ maxDepth: 2 });
  return fc.oneof({ weight: 60, arbitrary: fitting(openapi, schema, depth) }, { weight: 1, arbitrary: junk });
}

function fitting(openapi: OpenApi, schema: Json, depth: number): fc.Arbitrary<unknown> {
  const of = (one: unknown) => anyOf(openapi, one as Json, depth + 1);
  if (typeof schema.$ref === 'string') {
    const name = schema.$ref.split('/').at(-1)!;
    return fitting(openapi, openapi.components.schemas[name] as Json, depth);
  }
  for (const many of ['anyOf', 'oneOf'] as const) {
    if (Array.isArray(schema[many])) return fc.oneof(...schema[many].map(of));
  }
  if (Array.isArray(schema.type)) return fc.oneof(...schema.type.map((type) => of({ ...schema, type })));
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (Array.isArray(schema.enum)) return fc.constantFrom(...schema.enum);
  if (schema.type === 'object') {
    const { properties = {}, required = [] } = schema as {
      properties?: Record<string, Json>;
      required?: string[];
    };
    const fields = Object.fromEntries(Object.entries(properties).map(([name, field]) => [name, of(field)]));
    return fc.record(fields, { requiredKeys: required.filter((name) => name in fields) });
  }
  if (schema.type === 'array') return fc.array(of(schema.items ?? {}), { maxLength: 3 });
  if (schema.type === 'integer' || schema.type === 'number') {
    return fc.oneof({ weight: 20, arbitrary: fc.integer({ min: 1, max: 3 }) }, fc.integer(), fc.double());
  }
  if (schema.type === 'boolean') return fc.boolean();
  if (schema.type === 'null') return fc.constant(null);
  if (schema.type === 'string') return text;
  return fc.jsonValue({ maxDepth: 2 });
}

const ids = ['r1', 'r2', 'r3', 'r4', 'extract', 'constructor', 'toString'];
const text = fc.oneof(
  { weight: 40, arbitrary: fc.constantFrom(...ids, 'db', 't') },
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '',
    '..',
    '../x',
    'a/b',
    '\u0000',
    '\ud800',
    "'; --",
    '%2e%2e',
    '💥',
    '2026-01-01T00:00:00Z',
    '-1',
    '1e999',
  ),
);

function requestOf(
  openapi: OpenApi,
  method: string,
  path: string,
  operation: Operation,
): fc.Arbitrary<{ url: string; init: { method: string; headers: Record<string, string>; body?: string } }> {
  const parameters = fc.record(
    Object.fromEntries(
      operation.parameters.map(({ name, in: where, schema }) => [
        `${where}:${name}`,
        fc.option(where === 'path' ? text : anyOf(openapi, schema), { freq: 4, nil: undefined }),
      ]),
    ),
  );
  const requestBody = operation.requestBody as { content: Record<string, { schema: Json }> } | undefined;
  const schema = requestBody?.content['application/json']?.schema;
  const body =
    requestBody === undefined
      ? fc.constant(undefined)
      : schema === undefined
        ? fc.string({ unit: 'binary' })
        : anyOf(openapi, schema);
  return fc.record({ parameters, body }).map(({ parameters: given, body: value }) => {
    const url = path.replace(/\{(\w+)\}/g, (_, name: string) =>
      name === 'org' ? ORG : encode(String(given[`path:${name}`] ?? 'r1')),
    );
    const query = new URLSearchParams();
    for (const [key, one] of Object.entries(given)) {
      // A poll may wait; nobody has to, here.
      if (!key.startsWith('query:') || one === undefined || key === 'query:wait_ms') continue;
      query.append(key.slice(6), typeof one === 'string' ? one : (JSON.stringify(one) ?? ''));
    }
    const headers = Object.entries(given)
      .filter(([key, one]) => key.startsWith('header:') && one !== undefined)
      .map(([key, one]) => [key.slice(7), encode(String(one))]);
    return {
      url: query.size === 0 ? url : `${url}?${query}`,
      init: {
        method: method.toUpperCase(),
        headers: Object.fromEntries(headers),
        ...(value === undefined ? {} : { body: JSON.stringify(value) }),
      },
    };
  });
}

function encode(value: string): string {
  return encodeURIComponent(value.toWellFormed()) || 'r1';
}

describe('requests made from the OpenAPI document', () => {
  it('find no answer of 500 or more, none of a status that is not declared, and no refusal that is not a problem', async () => {
    const served: Served = await serve({ orgRequestsPerSecond: 1e6, orgBurst: 1e6, streamMs: 0 });
    const { openapi } = served.service;
    const anywhere = ANYWHERE.map((code) => String(MEANINGS[code].status));
    const seen = new Map<number, number>();
    for (let round = 0; round < 2; round++) {
      for (const [path, operations] of Object.entries(openapi.paths)) {
        for (const [method, operation] of Object.entries(operations)) {
          const property = fc.asyncProperty(
            requestOf(openapi, method, path, operation),
            async ({ url, init }) => {
              const { method: verb, ...given } = init;
              const response = await served.call(verb, url, given);
              seen.set(response.status, (seen.get(response.status) ?? 0) + 1);
              const answer = await response.text();
              expect(response.status, answer).toBeLessThan(500);
              const declared = [...Object.keys(operation.responses as Json), ...anywhere];
              expect(declared, `${verb} ${url}: ${answer}`).toContain(String(response.status));
              if (response.status < 400) return;
              const problem = problemSchema.parse(JSON.parse(answer));
              expect(problem.status).toBe(response.status);
            },
          );
          await fc.assert(property, { numRuns: 40, seed: 20261120 + round });
        }
      }
    }
    // It got past the checks, too.
    expect(seen.get(200)).toBeGreaterThan(300);
    expect(seen.get(201)).toBeGreaterThan(5);
    expect(seen.get(409)).toBeGreaterThan(5);
    expect(served.log.lines.filter((line) => line.includes('"stack"'))).toEqual([]);
  });
});
