import type { z } from 'zod';

type Check = (value: unknown) => boolean;

/**
 * Whether `schema` would take a value and give the very same one back: every key there, in the order of the schema, none
 * besides. `false` says nothing: ask the schema, which also has the error. For values that come by the thousand and are
 * nearly all plain. `value` is what JSON.parse gives, with no prototypes of its own.
 *
 * Made from the schema, so that what is asked stands in one place. A schema that has something unknown to this is never
 * exact: nothing is taken that zod was not asked about.
 */
export function exactCheck(schema: z.ZodType): Check {
  return checkOf(schema as unknown as Node);
}

/** What is used of zod's own description of a schema. */
interface Node {
  _zod: { def: Definition };
}

interface Definition {
  type: string;
  checks?: readonly { _zod: { def: CheckDefinition } }[];
  shape?: Record<string, Node>;
  catchall?: Node;
  element?: Node;
  innerType?: Node;
  options?: readonly Node[];
  discriminator?: string;
  entries?: Record<string, string>;
  values?: readonly unknown[];
  coerce?: boolean;
  /** Of a format, such as `z.int()`, which is a schema and a check in one. */
  check?: string;
}

interface CheckDefinition {
  check: string;
  format?: string;
  value?: number;
  inclusive?: boolean;
  minimum?: number;
  maximum?: number;
}

const never: Check = () => false;

function checkOf({ _zod: { def } }: Node): Check {
  if (def.coerce === true || def.check !== undefined) return never;
  const checks = (def.checks ?? []).map(({ _zod }) => furtherCheck(_zod.def));
  if (checks.includes(never)) return never;
  const type = typeCheck(def);
  if (checks.length === 0 || type === never) return type;
  return (value) => {
    if (!type(value)) return false;
    for (let k = 0; k < checks.length; k++) if (!checks[k]!(value)) return false;
    return true;
  };
}

function typeCheck(def: Definition): Check {
  if (def.type === 'string') return (value) => typeof value === 'string';
  if (def.type === 'number') return (value) => Number.isFinite(value);
  if (def.type === 'enum' || def.type === 'literal') {
    const values = new Set<unknown>(def.values ?? Object.values(def.entries ?? {}));
    return (value) => values.has(value);
  }
  if (def.type === 'default' && def.innerType !== undefined) {
    // What is left out is filled in, and so not the same.
    const inner = checkOf(def.innerType);
    return (value) => value !== undefined && inner(value);
  }
  if (def.type === 'nullable' && def.innerType !== undefined) {
    const inner = checkOf(def.innerType);
    return (value) => value === null || inner(value);
  }
  if (def.type === 'array' && def.element !== undefined) {
    const element = checkOf(def.element);
    return (value) => Array.isArray(value) && value.every(element);
  }
  if (def.type === 'object' && def.shape !== undefined && def.catchall === undefined)
    return objectCheck(def.shape);
  if (def.type === 'union' && def.discriminator !== undefined)
    return unionCheck(def.options ?? [], def.discriminator);
  return never;
}

function objectCheck(shape: Record<string, Node>): Check {
  const keys = Object.keys(shape);
  const checks = keys.map((key) => checkOf(shape[key]!));
  return (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
    let n = 0;
    for (const key in value) if (key !== keys[n++]) return false;
    if (n !== keys.length) return false;
    const fields = value as Record<string, unknown>;
    for (let k = 0; k < keys.length; k++) if (!checks[k]!(fields[keys[k]!])) return false;
    return true;
  };
}

/** Options whose discriminator is a literal each. */
function unionCheck(options: readonly Node[], discriminator: string): Check {
  const checkOfValue = new Map<unknown, Check>();
  for (const option of options) {
    const literals = option._zod.def.shape?.[discriminator]?._zod.def.values ?? [];
    for (const literal of literals) checkOfValue.set(literal, checkOf(option));
  }
  return (value) => {
    if (typeof value !== 'object' || value === null) return false;
    return checkOfValue.get((value as Record<string, unknown>)[discriminator])?.(value) === true;
  };
}

function furtherCheck(def: CheckDefinition): Check {
  const { value: bound = Number.NaN, inclusive } = def;
  if (def.check === 'number_format' && def.format === 'safeint') return Number.isSafeInteger;
  if (def.check === 'greater_than')
    return (value) => (value as number) > bound || (inclusive === true && value === bound);
  if (def.check === 'min_length')
    return (value) => (value as { length: number }).length >= (def.minimum ?? Number.NaN);
  return never;
}
