import type { PoolClient } from 'pg';
import { InputError } from '../core/errors.ts';
import { defaultLimits } from '../core/limits.ts';
import type { SqlTable } from './sql-table.ts';

/** Of `write_id`: 32 hexadecimal digits. */
const WRITE_ID_LENGTH = 32;

interface Column {
  name: string;
  type: string;
  /** It must be given a value, and nothing but an INSERT gives it one. */
  needed: boolean;
}

/**
 * Whether a table that is there keeps what is written as it was written: types, widths, other columns that would refuse
 * every row, and a unique constraint that holds at once. Two queries, and no write. Throws InputError, which names all
 * that is wrong.
 */
export async function checkTable(
  client: PoolClient,
  url: string,
  { schema, table, idColumn }: SqlTable & { schema: string },
): Promise<void> {
  const name = `"${schema}"."${table}"`;
  const { rows: columns } = await client.query<Column>(
    `SELECT attname AS name, format_type(atttypid, atttypmod) AS type,
       attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = '' AS needed
     FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [name],
  );
  const { rows: deferrable } = await client.query(
    `SELECT 1 FROM pg_index WHERE indrelid = to_regclass($1) AND indisunique AND NOT indimmediate
       AND indnkeyatts = 2 AND (SELECT count(*) FROM pg_attribute WHERE attrelid = indrelid
         AND attnum = ANY (indkey) AND attname IN ('org_id', $2)) = 2`,
    [name, idColumn],
  );
  const problems = columns.flatMap(({ name, type, needed }) => {
    const rule = rulesOf(idColumn)[name];
    if (rule !== undefined) return rule.fits(type) ? [] : [`${name} is ${type} and must be ${rule.is}`];
    return needed ? [`${name} is NOT NULL without a default, and runfold does not fill it`] : [];
  });
  if (deferrable.length > 0)
    problems.push(`its unique constraint over org_id and ${idColumn} is DEFERRABLE, and must not be`);
  if (problems.length === 0) return;
  throw new InputError(`The table ${url} cannot hold runs: ${problems.join('; ')}.`, {
    hint: 'Change it as docs/MIGRATION.md defines it, or leave out manage=off and name a table that is not there yet.',
  });
}

interface Rule {
  is: string;
  fits(type: string): boolean;
}

function rulesOf(idColumn: string): Record<string, Rule | undefined> {
  const id = textOf(defaultLimits.idLengthMax);
  const integer = {
    is: 'BIGINT or INTEGER',
    fits: (type: string) => /^(bigint|integer|numeric)$/.test(type),
  };
  return {
    org_id: id,
    [idColumn]: id,
    revision: integer,
    write_id: textOf(WRITE_ID_LENGTH),
    body: textOf(Number.POSITIVE_INFINITY),
    crc32c: { is: 'BIGINT', fits: (type) => /^(bigint|numeric)$/.test(type) },
  };
}

function textOf(length: number): Rule {
  return {
    is: Number.isFinite(length) ? `TEXT, or VARCHAR of at least ${length}` : 'TEXT',
    fits: (type) => {
      const match = /^(?:text|character varying(?:\(([0-9]+)\))?)$/.exec(type);
      return match !== null && (match[1] === undefined || Number(match[1]) >= length);
    },
  };
}
