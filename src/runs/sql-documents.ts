import type { CorruptError } from '../core/errors.ts';

/**
 * One table of one SQL database, as dumb as a bucket: JSON texts by (org, id), compared and swapped. Adapters make one
 * attempt per call and obey the signal at once; `settling` puts deadlines, retries and settled outcomes around them.
 *
 * A StoreError from a write means that it definitely had no effect; what is not known comes back as `unknown`.
 */
export interface Documents {
  /** Without secrets. */
  readonly url: string;
  /** Names the table itself, however the URL was spelled. */
  identity(signal: AbortSignal): Promise<string>;
  read(key: DocumentKey, signal: AbortSignal): Promise<StoredDocument | null>;
  /** One statement under the unique constraint: of racing inserts exactly one is `written`. */
  insert(document: Document, signal: AbortSignal): Promise<DocumentWrite>;
  /** One statement: replaces exactly the state that `expected` names. */
  update(document: Document, expected: DocumentState, signal: AbortSignal): Promise<DocumentWrite>;
  delete(key: DocumentKey, expected: DocumentState, signal: AbortSignal): Promise<DocumentWrite>;
  /** At most `limit` documents after `after`, ascending by (org, id) in byte order: keyset pagination. */
  page(query: PageQuery, signal: AbortSignal): Promise<ScannedDocument[]>;
  close(): Promise<void>;
}

export interface DocumentKey {
  orgId: string;
  id: string;
}

/**
 * Names one write of one document. The revision alone would not do: a document that was removed and created anew
 * starts over at revision 1. `writeId` also tells our own write from another's after a lost answer.
 */
export interface DocumentState {
  revision: number;
  writeId: string;
}

export interface Document extends DocumentKey, DocumentState {
  body: string;
}

export type StoredDocument = Document;

export type ScannedDocument =
  | (DocumentKey & { document: StoredDocument })
  | (DocumentKey & { problem: CorruptError });

export interface PageQuery {
  orgId?: string | undefined;
  /** Exclusive. */
  after?: DocumentKey | undefined;
  limit: number;
}

export type DocumentWrite =
  | { outcome: 'written' }
  | { outcome: 'conflict' }
  /** It may have taken effect, may do so within the server's statement time-out, or never. */
  | { outcome: 'unknown'; cause: unknown };
