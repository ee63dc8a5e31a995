import { errorMessage, RunfoldError, StoreError } from '../core/errors.ts';

/** SQLSTATE; undefined where it is no answer of the server. */
function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown; severity?: unknown } | null)?.code;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && 'severity' in (error as object)
    ? code
    : undefined;
}

/**
 * Whether a statement may have been committed all the same. The server's ERROR says that it was not. A connection
 * that broke says nothing, nor does a server that was shut down or lost its standby in the middle.
 */
export function isAmbiguous(error: unknown): boolean {
  const state = sqlState(error);
  return state === undefined || state.startsWith('08') || state === '40003' || /^57P0[1245]$/.test(state);
}

const RETRYABLE = /^(08|53|40001|40P01|55P03|57014|57P0|25006|XX000)/;
const DENIED = /^(28|42501|3D000)/;

/** What is known to have had no effect, as StoreError. */
export function definite(url: string, error: unknown): unknown {
  if (error instanceof RunfoldError) return error;
  const state = sqlState(error);
  const message = `${url}: ${errorMessage(error) || 'no connection'}.`;
  if (state === undefined) {
    return new StoreError('STORE_UNAVAILABLE', message, {
      retryable: true,
      hint: 'See that the server is up and can be reached.',
      cause: error,
    });
  }
  const details = { sqlstate: state };
  if (DENIED.test(state)) {
    const hint = 'See user, password, database and privileges.';
    return new StoreError('STORE_DENIED', message, { retryable: false, hint, cause: error, details });
  }
  if (state === '57014') {
    return new StoreError('DEADLINE_EXCEEDED', message, { retryable: true, cause: error, details });
  }
  const retryable = RETRYABLE.test(state);
  return new StoreError(retryable ? 'STORE_UNAVAILABLE' : 'STORE_FAILED', message, {
    retryable,
    hint: hintOf(state),
    cause: error,
    details,
  });
}

function hintOf(state: string): string {
  if (state === '42P01' || state === '3F000')
    return 'Create the table (docs/MIGRATION.md), or leave out manage=off.';
  if (state === '42703') return 'The table lacks a column: docs/MIGRATION.md has its definition.';
  if (state === '42P10')
    return 'The table needs PRIMARY KEY or UNIQUE (org_id, run_id): without it two creates can both win.';
  return 'The details have the SQLSTATE; the log of the server may say more.';
}
