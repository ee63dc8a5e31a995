import type { Manifest } from '../manifest/manifest.ts';
import { type Rows, RowsBuilder } from '../snapshot/rows.ts';
import { merge, type Overlay } from './fold.ts';

/** Rows of which some no longer stand. */
export interface Segment {
  readonly rows: Rows;
  /** 1 for each row to pass over; null: every row stands. */
  readonly replaced: Uint8Array | null;
}

/**
 * One org as of one refresh: the snapshot's head rows and, over them, the tail. It never changes; the next refresh
 * makes another. Views read `segments`, so that nothing is copied for a short tail.
 */
export class CatalogState {
  readonly orgId: string;
  readonly manifest: Manifest | null;
  readonly base: Rows;
  readonly overlay: Overlay;
  #segments: readonly Segment[] | null = null;
  #rowCount = 0;

  constructor(orgId: string, manifest: Manifest | null, base: Rows, overlay: Overlay) {
    this.orgId = orgId;
    this.manifest = manifest;
    this.base = base;
    this.overlay = overlay;
  }

  get segments(): readonly Segment[] {
    if (this.#segments === null) {
      const { replaced, replacedCount, puts } = merge(
        this.base,
        this.overlay,
        this.manifest?.horizon ?? null,
      );
      const builder = new RowsBuilder(this.orgId, puts.length);
      for (const { row } of puts) builder.add(row);
      this.#rowCount = this.base.length - replacedCount + puts.length;
      this.#segments = [
        { rows: this.base, replaced: replacedCount > 0 ? replaced : null },
        { rows: builder.build(), replaced: null },
      ];
    }
    return this.#segments;
  }

  get rowCount(): number {
    return this.segments.length > 0 ? this.#rowCount : 0;
  }

  /** Whether head or tail have the run of that row, or know that it was deleted: an older row of it says nothing. */
  knows(rows: Rows, i: number): boolean {
    if (this.base.indexOfRow(rows, i) >= 0) return true;
    return this.overlay.facts.size > 0 && this.overlay.facts.has(rows.runId(i));
  }

  /** All standing rows as one table: copies them. */
  rows(): Rows {
    const segments = this.segments;
    const builder = new RowsBuilder(this.orgId, this.rowCount);
    for (const segment of segments) builder.gather(segment.rows, standing(segment));
    return builder.build();
  }
}

/** The numbers of the rows that stand. */
export function standing({ rows, replaced }: Segment): Uint32Array {
  const numbers = new Uint32Array(rows.length);
  let n = 0;
  for (let i = 0; i < rows.length; i++) if (replaced === null || replaced[i] === 0) numbers[n++] = i;
  return numbers.subarray(0, n);
}
