/** Version of the part's columns and meaning. A reader refuses a higher one. */
export const PART_FORMAT = 1;

export const FORMAT_KEY = 'runfold.part_format';
export const ORG_KEY = 'runfold.org_id';

/** What both codecs put into the Parquet key-value metadata, in this order. */
export function partMetadata(orgId: string): [key: string, value: string][] {
  return [
    [FORMAT_KEY, String(PART_FORMAT)],
    [ORG_KEY, orgId],
  ];
}
