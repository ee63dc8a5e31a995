/** What one refresh cost. Times in ms. */
export interface RefreshStats {
  /** Whether the manifest was read (a full refresh), or only what is new was listed. */
  cold: boolean;
  /** Sets of requests issued one after the other, intents included. */
  rounds: number;
  requests: number;
  /** Of bodies and listed metadata. */
  bytes: number;
  rows: number;
  manifestVersion: number | null;
  tailEntries: number;
  tailRecords: number;
  /** Age of the oldest entry of the tail by the server's clock; null after a refresh that listed only what is new. */
  tailAgeMs: number | null;
  /** Unconfirmed intents whose canonical run was read. */
  intentsAsked: number;
  intentRounds: number;
  /** Corrupt entries that a compactor set aside: their records are missing until `runfold repair`. */
  quarantined: number;
  /** The version read instead of the current one, whose head is corrupt; null: none. */
  fallbackVersion: number | null;
  /** More than 1: a round had to be done again. */
  attempts: number;
  firstRoundMs: number;
  totalMs: number;
}

export function emptyStats(): RefreshStats {
  return {
    cold: true,
    rounds: 0,
    requests: 0,
    bytes: 0,
    rows: 0,
    manifestVersion: null,
    tailEntries: 0,
    tailRecords: 0,
    tailAgeMs: null,
    intentsAsked: 0,
    intentRounds: 0,
    quarantined: 0,
    fallbackVersion: null,
    attempts: 0,
    firstRoundMs: 0,
    totalMs: 0,
  };
}
