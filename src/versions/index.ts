/** Published versions of artifacts: `runfold/versions`. */
export {
  type PublishDetails,
  type Published,
  type Refusal,
  type RegistryOptions,
  type Reservation,
  type Reserved,
  type ReserveOptions,
  VersionRegistry,
} from './registry.ts';
export type { ArtifactRef, PublishedVersion, VersionRef } from './version.ts';
export { VersionIndex } from './version-index.ts';
