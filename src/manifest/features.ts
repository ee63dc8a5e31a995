/** What a manifest may ask of who uses it. */
interface Feature {
  /** The runfold version that brought it: whoever refuses it can tell what to upgrade to. */
  readonly since: string;
  /** `reader`: nobody may read the manifest without it. `writer`: nobody may replace it. */
  readonly who: 'reader' | 'writer';
}

/**
 * Every feature that this runfold understands, and needs of whoever uses the manifests that it writes.
 *
 * `projection-2`: rows have a trace and artifacts, which a compactor that does not know them would drop at its fold.
 */
const FEATURES: Readonly<Record<string, Feature>> = {
  'projection-2': { since: '0.1.0', who: 'writer' },
};

export const READER_FEATURES: readonly string[] = namesOf('reader');
export const WRITER_FEATURES: readonly string[] = namesOf('writer');

/** What goes into the manifest, for those who do not know a feature yet. */
export const FEATURE_VERSIONS: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(FEATURES).map(([name, { since }]) => [name, since]),
);

function namesOf(who: Feature['who']): string[] {
  return Object.entries(FEATURES).flatMap(([name, feature]) => (feature.who === who ? [name] : []));
}
