import type { Trace, TraceGap } from '../runs/run.ts';

/** What is known of a log at one time. */
export interface TraceState {
  run_id: string;
  attempt: number;
  status: Trace['status'];
  /** Bytes of it. Of a live one: as far as it is known without a gap. */
  bytes: number;
  /** Nothing more comes. Not as long as a live log has a gap: its archive will tell what became of it. */
  ended: boolean;
  /** Bytes that are missing where reading stopped, though later ones are there. They may still come while it is live. */
  gap: TraceGap | null;
  /** What an archive is missing, the first `traceGapsMax`; text that says so stands there. */
  gaps: TraceGap[];
}

export interface TraceSlice {
  offset: number;
  body: Uint8Array;
  state: TraceState;
}

/** The byte that the next slice begins with. */
export function endOf({ offset, body }: TraceSlice): number {
  return offset + body.length;
}

/** What of a slice comes at `from` and later; null: it ends before, or says nothing of what comes there. */
export function behind(slice: TraceSlice, from: number): TraceSlice | null {
  const { offset, body } = slice;
  if (offset === from) return slice;
  return endOf(slice) <= from ? null : { ...slice, offset: from, body: body.subarray(from - offset) };
}
