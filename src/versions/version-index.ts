import { SharedLook } from '../core/concurrency.ts';
import type { Dataset } from '../runs/run.ts';
import type { PublishDetails, Published, Reservation, ReserveOptions, VersionRegistry } from './registry.ts';
import type { ArtifactRef, PublishedVersion, VersionRef } from './version.ts';

/**
 * One process's view of an org's published versions. What it publishes itself it shows at once; versions are never
 * unpublished, so a refresh only ever adds: one that was in flight meanwhile takes nothing away, and of several the
 * one that looked last wins nothing either.
 */
export class VersionIndex {
  readonly orgId: string;
  readonly #registry: VersionRegistry;
  readonly #versions = new Map<string, PublishedVersion>();
  readonly #shared = new SharedLook(() => this.#load());

  constructor(registry: VersionRegistry, orgId: string) {
    this.orgId = orgId;
    this.#registry = registry;
  }

  /**
   * Shows every version that was published before this call. One LIST per 1000 versions. A call that comes while
   * another runs waits for the next: the running one may have looked too early. Who aborts stops waiting for it.
   */
  refresh(signal?: AbortSignal): Promise<void> {
    return this.#shared.next(signal);
  }

  async commit(reservation: Reservation, details: PublishDetails, signal?: AbortSignal): Promise<Published> {
    return this.#show(await this.#registry.commit(this.orgId, reservation, details, signal));
  }

  async publish(ref: VersionRef, details: PublishDetails, options: ReserveOptions): Promise<Published> {
    return this.#show(await this.#registry.publish(this.orgId, ref, details, options));
  }

  get(ref: VersionRef): PublishedVersion | null {
    return this.#versions.get(idOf(ref)) ?? null;
  }

  /** Of one artifact, or of all artifacts of a table, in the order of their publication. */
  list({ table, artifact }: { table: Dataset } & Partial<ArtifactRef>): PublishedVersion[] {
    return [...this.#versions.values()]
      .filter(
        (one) =>
          one.table.namespace === table.namespace &&
          one.table.name === table.name &&
          (artifact === undefined || one.artifact === artifact),
      )
      .sort((a, b) => a.committed_at - b.committed_at || (a.version < b.version ? -1 : 1));
  }

  latest(ref: ArtifactRef): PublishedVersion | null {
    return this.list(ref).at(-1) ?? null;
  }

  get size(): number {
    return this.#versions.size;
  }

  async #load(): Promise<void> {
    for (const version of await this.#registry.published(this.orgId)) this.#add(version);
  }

  #show(published: Published): Published {
    if (published.outcome === 'published') this.#add(published.version);
    return published;
  }

  #add(version: PublishedVersion): void {
    this.#versions.set(idOf(version), version);
  }
}

function idOf({ table, artifact, version }: VersionRef): string {
  return JSON.stringify([table.namespace, table.name, artifact, version]);
}
