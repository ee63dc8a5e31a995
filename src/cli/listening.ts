import { errorMessage, InputError } from '../core/errors.ts';

/** Waits for a server to listen; an address that cannot be had is the caller's to change, and no defect. */
export async function listening<T>(at: { host: string; port: number }, start: Promise<T>): Promise<T> {
  try {
    return await start;
  } catch (cause) {
    const { syscall } = cause as NodeJS.ErrnoException;
    if (syscall !== 'listen' && syscall !== 'getaddrinfo') throw cause;
    throw new InputError(`Cannot listen on ${at.host}:${at.port}: ${errorMessage(cause)}.`, {
      hint: 'Choose another port or address; port 0 takes any that is free.',
      cause,
    });
  }
}
