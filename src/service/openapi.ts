import { z } from 'zod';
import { newRunInput } from '../runs/input.ts';
import type { Rule } from './access.ts';
import type { Json, OpenApi, Operation } from './openapi-document.ts';
import { MEANINGS, type ServiceErrorCode } from './problem.ts';
import type { MediaType, Route } from './route.ts';
import { components, idParam, problemSchema } from './schemas.ts';

/** What a route may always answer, by what it asks of its caller. */
const ALWAYS: Record<Rule['access'], readonly ServiceErrorCode[]> = {
  public: ['INVALID_INPUT', 'OVERLOADED'],
  metrics: ['INVALID_INPUT', 'UNAUTHENTICATED', 'FORBIDDEN', 'OVERLOADED', 'KEYS_UNAVAILABLE'],
  token: [
    'INVALID_INPUT',
    'UNAUTHENTICATED',
    'FORBIDDEN',
    'ORG_NOT_FOUND',
    'RATE_LIMITED',
    'STORE_UNAVAILABLE',
    'OVERLOADED',
    'KEYS_UNAVAILABLE',
  ],
};

/** What any request may be answered with, whatever its route: the `default` of every operation. */
export const ANYWHERE: readonly ServiceErrorCode[] = [
  'METHOD_NOT_ALLOWED',
  'REQUEST_TIMEOUT',
  'HEADERS_TOO_LARGE',
  'INTERNAL',
  'CORRUPT',
  'UNSUPPORTED_FORMAT',
  'DEADLINE_EXCEEDED',
];

const WITH_BODY: readonly ServiceErrorCode[] = ['BODY_TOO_LARGE', 'UNSUPPORTED_MEDIA_TYPE'];

/** OpenAPI 3.1 from the route table: its schemas are the zod schemas that requests are checked against. */
export function openApiOf(routes: readonly Route[], version: string): OpenApi {
  const paths: OpenApi['paths'] = {};
  for (const route of routes) {
    paths[route.path] ??= {};
    paths[route.path]![route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'runfold',
      version,
      description:
        'An org-scoped catalog of pipeline runs. Times are ms since the epoch, UTC. Every request may be repeated: ' +
        'after a time-out, a lost answer, or a 503. An `X-Request-Id` of 1 to 128 letters, digits and `. _ : + / = @ ~ -` ' +
        'comes back with the answer and is in the log; any other is replaced.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: schemasOf(),
      securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
    },
  };
}

function operationOf(route: Route): Operation {
  const { method, path, rule, tag, summary, description, query, body, raw, answers } = route;
  const responses: Json = {};
  for (const [status, { description: about, content }] of Object.entries(answers)) {
    responses[status] = {
      description: about,
      ...(content === undefined ? {} : { content: contentOf(content) }),
    };
  }
  for (const [status, codes] of byStatus(route)) {
    responses[status] ??= refusalWith(codes.map((code) => `\`${code}\`: ${MEANINGS[code].title}`));
  }
  responses.default = refusalWith(
    ANYWHERE.map((code) => `${MEANINGS[code].status} \`${code}\`: ${MEANINGS[code].title}`),
  );
  return {
    operationId: operationId(method, path),
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    'x-roles': rolesOf(rule),
    security: rule.access === 'public' ? [] : [{ token: [] }],
    parameters: [...pathParameters(path), ...queryParameters(query), ...headerParameters(route)],
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: body.optional !== true,
            content: { 'application/json': { schema: ref(body.schema) } },
          },
        }),
    ...(raw === undefined
      ? {}
      : {
          requestBody: { required: false, description: raw.description, content: { [raw.type]: {} } },
        }),
    responses,
  };
}

function byStatus({ rule, body, raw, errors = [] }: Route): Map<string, ServiceErrorCode[]> {
  const codes = new Set([
    ...errors,
    ...ALWAYS[rule.access],
    ...(body === undefined && raw === undefined ? [] : WITH_BODY),
  ]);
  const found = new Map<string, ServiceErrorCode[]>();
  for (const code of codes) {
    const status = String(MEANINGS[code].status);
    found.set(status, [...(found.get(status) ?? []), code]);
  }
  // Of a run that was deleted: see problem.ts.
  if (codes.has('RUN_NOT_FOUND')) found.set('410', ['RUN_NOT_FOUND', ...(found.get('410') ?? [])]);
  return found;
}

function refusalWith(descriptions: readonly string[]): Json {
  return {
    description: descriptions.join('; '),
    content: { 'application/problem+json': { schema: ref(problemSchema) } },
  };
}

export function rolesOf(rule: Rule): string[] {
  if (rule.access === 'public') return ['anybody'];
  if (rule.access === 'metrics') return ['operator'];
  return rule.worker ? [...rule.roles, 'worker of this run'] : [...rule.roles];
}

function operationId(method: string, path: string): string {
  const words = path.split('/').filter((part) => part !== '' && !part.startsWith('{'));
  return [method.toLowerCase(), ...words, ...(path.endsWith('}') ? ['one'] : [])]
    .join('_')
    .replace(/[^a-z0-9]+/gi, '_');
}

function pathParameters(path: string): Operation['parameters'] {
  return [...path.matchAll(/\{([a-z]+)\}/g)].map(([, name]) => ({
    name: name!,
    in: 'path',
    required: true,
    schema: plain(idParam),
  }));
}

function queryParameters(query: z.ZodType | undefined): Operation['parameters'] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = plain(query) as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    ...(description === undefined ? {} : { description: String(description) }),
    schema,
  }));
}

const HEADERS = {
  'Cache-Control': '`max-age=N`, `no-cache`: how old the answer may be',
  'Idempotency-Key': 'the run id is made from it, where the body has neither `run_id` nor `run_key`',
  'If-None-Match': 'ETags that the caller has: 304 where the answer is still one of them',
  'Last-Event-ID': 'the id of the last event that came: the stream goes on behind it',
  Range: '`bytes=…`',
};

/** Those that the route names, and those that belong to what it may answer. */
function headerParameters({ answers, headers = [] }: Route): Operation['parameters'] {
  const types = Object.values(answers).flatMap(({ content = [] }) => content.map(({ type }) => type));
  const names: (keyof typeof HEADERS)[] = [
    ...headers,
    ...(answers[304] === undefined ? [] : (['If-None-Match'] as const)),
    ...(answers[206] === undefined ? [] : (['Range'] as const)),
    ...(types.includes('text/event-stream') ? (['Last-Event-ID'] as const) : []),
  ];
  return names.map((name) => ({
    name,
    in: 'header',
    required: false,
    description: HEADERS[name],
    schema: { type: 'string' },
  }));
}

function contentOf(content: readonly MediaType[]): Json {
  return Object.fromEntries(
    content.map(({ type, schema }) => [type, schema === undefined ? {} : { schema: ref(schema) }]),
  );
}

const uri = (id: string) => `#/components/schemas/${id}`;

/** A component by its name; anything else in full. */
function ref(schema: z.ZodType): Json {
  const known = components.get(schema);
  return known === undefined ? plain(schema) : { $ref: uri(known.id) };
}

/** `io: input`: what may be sent, and answers to which fields may be added later. */
const OPTIONS: z.core.ToJSONSchemaParams = {
  target: 'draft-2020-12',
  io: 'input',
  unrepresentable: 'any',
  // A refinement has no words in JSON Schema: ids get those of `idParam`, which means the same.
  override({ zodSchema, jsonSchema }) {
    if ((zodSchema as unknown) === newRunInput.shape.run_id) Object.assign(jsonSchema, idParam.meta());
  },
};

function plain(schema: z.ZodType): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, OPTIONS) as Json;
  return json;
}

function schemasOf(): Record<string, Json> {
  const { schemas } = z.toJSONSchema(components, { ...OPTIONS, uri });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _, $id: __, ...schema }]) => [id, schema as Json]),
  );
}
