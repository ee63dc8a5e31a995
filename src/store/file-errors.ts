import { InputError, StoreError } from '../core/errors.ts';
import type { PutOptions } from './object-store.ts';

/** errno → what it means here. Not retryable: somebody has to do something first. */
const known: Record<string, { code: StoreErrorCode; retryable: boolean; what: string; hint: string }> = {
  ENOSPC: {
    code: 'STORE_FAILED',
    retryable: false,
    what: 'the disk is full',
    hint: 'Free space on the disk of the store, then call again.',
  },
  EDQUOT: {
    code: 'STORE_FAILED',
    retryable: false,
    what: 'the disk quota is used up',
    hint: 'Free space or raise the quota, then call again.',
  },
  EFBIG: {
    code: 'STORE_FAILED',
    retryable: false,
    what: 'the file is larger than the file system or the process may write',
    hint: 'Check `ulimit -f`.',
  },
  EACCES: {
    code: 'STORE_DENIED',
    retryable: false,
    what: 'permission denied',
    hint: 'Give the user that runs this process read and write access to the directory of the store.',
  },
  EPERM: {
    code: 'STORE_DENIED',
    retryable: false,
    what: 'the operation is not permitted',
    hint: 'The directory of the store needs write access and a file system with hard links.',
  },
  EROFS: {
    code: 'STORE_DENIED',
    retryable: false,
    what: 'the file system is read-only',
    hint: 'Mount it for writing; reading works as it is.',
  },
  EMFILE: {
    code: 'STORE_UNAVAILABLE',
    retryable: true,
    what: 'this process has too many open files',
    hint: 'Raise `ulimit -n` or lower the parallelism.',
  },
  ENFILE: {
    code: 'STORE_UNAVAILABLE',
    retryable: true,
    what: 'this host has too many open files',
    hint: 'Raise the limit of open files of the host.',
  },
  EIO: {
    code: 'STORE_FAILED',
    retryable: false,
    what: 'the disk reports an input/output error',
    hint: 'Check the kernel log and the disk; restore the store from a backup if it is failing.',
  },
  ENAMETOOLONG: {
    code: 'STORE_FAILED',
    retryable: false,
    what: 'the path is too long for the file system',
    hint: 'Move the store to a directory with a shorter path, or use shorter ids.',
  },
  ENOTSUP: {
    code: 'STORE_FAILED',
    retryable: false,
    what: 'the file system lacks an operation that the store needs',
    hint: 'Use a local file system with hard links and file locks (ext4, xfs, btrfs, apfs).',
  },
  EINVAL: {
    code: 'STORE_FAILED',
    retryable: false,
    what: 'the file system refuses the operation',
    hint: 'Use a local file system with hard links and file locks (ext4, xfs, btrfs, apfs).',
  },
};

const passing = new Set(['EAGAIN', 'EBUSY', 'EINTR', 'ENOMEM', 'ESTALE', 'ETIMEDOUT']);

type StoreErrorCode = 'STORE_DENIED' | 'STORE_FAILED' | 'STORE_UNAVAILABLE';

export function isErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes(String((error as NodeJS.ErrnoException).code));
}

/** The disk failed while a name was changing: nobody can say on which side of the change it stands. */
export function inDoubt(error: unknown): boolean {
  const { syscall } = error as NodeJS.ErrnoException;
  return isErrno(error, 'EIO') && (syscall === 'link' || syscall === 'rename' || syscall === 'unlink');
}

/** The StoreError for what the file system threw; anything else (ours, an abort reason, a defect) passes unchanged. */
export function failed(action: string, key: string, error: unknown): unknown {
  if (!(error instanceof Error) || (error as NodeJS.ErrnoException).syscall === undefined) return error;
  const errno = String((error as NodeJS.ErrnoException).code);
  if (['ENOTDIR', 'EISDIR', 'EEXIST', 'ENOTEMPTY'].includes(errno)) return overlapping(key, error);
  const meaning = known[errno];
  const what = meaning?.what ?? error.message;
  const code = meaning?.code ?? (passing.has(errno) ? 'STORE_UNAVAILABLE' : 'STORE_FAILED');
  return new StoreError(code, `Could not ${action} ${key}: ${what}.`, {
    retryable: meaning?.retryable ?? passing.has(errno),
    ...(meaning && { hint: meaning.hint }),
    cause: error,
    details: { key, errno },
  });
}

/** Object stores allow `a` beside `a/b`; a directory tree does not. No key of runfold needs it. */
export function overlapping(key: string, cause?: unknown): StoreError {
  return new StoreError('STORE_FAILED', `${key} cannot be both an object and a directory of objects.`, {
    retryable: false,
    hint: 'A file store cannot hold a key beside keys that continue it after a slash.',
    cause,
    details: { key },
  });
}

/** For keys that can never be stored. The caller's defect, so InputError. */
export function badKey(key: string, reason: string): InputError {
  return new InputError(`The object key ${JSON.stringify(key)} ${reason}.`, {
    hint: 'Keys of a file store are printable ASCII in segments of at most 255 bytes; percent-encode the rest.',
    details: { key },
  });
}

/** Throws StoreError where names and values together are longer than the store takes. */
export function checkMetadata(key: string, metadata: PutOptions['metadata'], bytesMax: number): void {
  let bytes = 0;
  for (const [name, value] of Object.entries(metadata ?? {})) {
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  if (bytes <= bytesMax) return;
  throw new StoreError('STORE_FAILED', `${key} has ${bytes} bytes of metadata, more than ${bytesMax}.`, {
    retryable: false,
    hint: 'Put it into the body.',
    details: { key, bytes, bytesMax },
  });
}
