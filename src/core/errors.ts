import { brand } from './brand.ts';

/** Stable error codes. A code never changes its meaning; new ones may be added. */
export type ErrorCode =
  | 'ARTIFACT_NOT_FOUND'
  | 'ATTEMPT_STALE'
  | 'CANCELLED'
  | 'CORRUPT'
  | 'DEADLINE_EXCEEDED'
  | 'INVALID_INPUT'
  | 'LIMIT_EXCEEDED'
  | 'OUTCOME_UNKNOWN'
  | 'OVERLOADED'
  | 'REVISION_CONFLICT'
  | 'RUN_ALREADY_EXISTS'
  | 'RUN_KEY_CONFLICT'
  | 'RUN_NOT_EXPIRED'
  | 'RUN_NOT_FOUND'
  | 'RUN_NOT_STARTED'
  | 'RUN_NOT_TERMINAL'
  | 'RUN_TERMINAL'
  | 'STORE_DENIED'
  | 'STORE_FAILED'
  | 'STORE_THROTTLED'
  | 'STORE_UNAVAILABLE'
  | 'TASK_NOT_FOUND'
  | 'TASK_NOT_STARTED'
  | 'TASK_NOT_TERMINAL'
  | 'TASK_TERMINAL'
  | 'TRACE_ARCHIVED'
  | 'TRACE_CLOSED'
  | 'TRACE_EXPIRED'
  | 'TRACE_NOT_FOUND'
  | 'SNAPSHOT_EXPIRED'
  | 'UNSUPPORTED_FORMAT'
  | 'VERSION_NOT_FOUND';

export interface ErrorOptions {
  /** What the caller can do about it, in one sentence. */
  hint?: string;
  cause?: unknown;
  /** Machine-readable facts: ids, keys, limits. Never secrets. */
  details?: Record<string, unknown>;
}

/**
 * Base of every error that runfold throws on purpose. Branch on `code`; show `message` and `hint` to people.
 * Anything else that escapes is a defect.
 */
export class RunfoldError extends Error {
  static {
    brand(RunfoldError, 'RunfoldError');
  }

  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: Record<string, unknown>;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
  }
}

/** The input breaks a rule. Nothing was changed; correct it and call again. */
export class InputError extends RunfoldError {
  static {
    brand(InputError, 'InputError');
  }

  constructor(message: string, options: ErrorOptions = {}) {
    super('INVALID_INPUT', message, options);
  }
}

/** An illegal or stale lifecycle event. Nothing was changed; do not repeat it unchanged. */
export class LifecycleError extends RunfoldError {
  static {
    brand(LifecycleError, 'LifecycleError');
  }
}

/**
 * A store call definitely had no effect (a recorder call that went further answers OUTCOME_UNKNOWN instead). `retryable` says whether the same call may succeed later;
 * `retryAfterMs` is the store's own wish where it named one.
 */
export class StoreError extends RunfoldError {
  static {
    brand(StoreError, 'StoreError');
  }

  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;

  constructor(
    code: 'STORE_DENIED' | 'STORE_FAILED' | 'STORE_THROTTLED' | 'STORE_UNAVAILABLE' | 'DEADLINE_EXCEEDED',
    message: string,
    options: ErrorOptions & { retryable: boolean; retryAfterMs?: number | undefined },
  ) {
    super(code, message, options);
    this.retryable = options.retryable;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/**
 * A write may or may not have taken effect, and reading back could not settle it. Repeat the same operation:
 * every runfold operation is idempotent. Never undo anything because of this error.
 */
export class OutcomeUnknownError extends RunfoldError {
  static {
    brand(OutcomeUnknownError, 'OutcomeUnknownError');
  }

  constructor(message: string, options: ErrorOptions = {}) {
    super('OUTCOME_UNKNOWN', message, { hint: 'Repeat the same call; repeats are safe.', ...options });
  }
}

/** Stored bytes are not what was written. They were neither used nor deleted. */
export class CorruptError extends RunfoldError {
  static {
    brand(CorruptError, 'CorruptError');
  }

  readonly key: string;

  constructor(key: string, reason: string, options: ErrorOptions = {}) {
    super('CORRUPT', `${key} is corrupt: ${reason}`, {
      hint: 'Run `runfold verify` to see the extent, and `runfold repair` to rebuild from the canonical runs.',
      ...options,
      details: { key, reason, ...options.details },
    });
    this.key = key;
  }
}

/** The object was written by a newer runfold. */
export class FormatError extends RunfoldError {
  static {
    brand(FormatError, 'FormatError');
  }

  constructor(key: string, what: string, options: ErrorOptions = {}) {
    super('UNSUPPORTED_FORMAT', `${key}: ${what}`, {
      hint: 'Upgrade runfold on this machine to the version that wrote it, or newer.',
      ...options,
      details: { key, ...options.details },
    });
  }
}

export function isRunfoldError(error: unknown): error is RunfoldError {
  return error instanceof RunfoldError;
}

/** One line for a log or a terminal, whatever was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What is wrong with an object, for whoever shows its key beside it. Takes the message as well as the error. */
export function reasonFor(key: string, error: unknown): string {
  const message = errorMessage(error);
  const known = `${key} is corrupt: `;
  return message.startsWith(known) ? message.slice(known.length) : message;
}
