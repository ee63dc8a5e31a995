/**
 * Every bound of runfold, in one place. `Limits` travel as a value: tests and embedders may tighten them.
 * Times are durations in ms.
 */
export const defaultLimits = {
  /** Org and run ids, reference ids and names: characters. */
  idLengthMax: 128,
  textLengthMax: 2_048,
  /** Error messages kept in a projection; longer ones are cut. */
  errorLengthMax: 1_024,
  /** Datasets per run and direction. */
  datasetsMax: 1_000,
  tasksMax: 10_000,
  /** Artifacts of one run, those counted that were replaced and not yet removed; figures reported with one of them. */
  artifactsMax: 1_000,
  artifactFiguresMax: 64,
  artifactTtlMaxMs: 3_650 * 24 * 3_600_000,
  /** One clean-up of one org looks at this many runs, those that expired first first; the next goes on. */
  artifactSweepRunsMax: 10_000,
  /** An outside event may be dated so far ahead of the server's clock: producers' clocks differ a little. */
  eventAheadMaxMs: 300_000,
  /** One canonical run, one entry, one manifest. */
  runBytesMax: 4 * 1024 * 1024,
  entryBytesMax: 4 * 1024 * 1024,
  manifestBytesMax: 8 * 1024 * 1024,

  /** One attempt of one store request. */
  requestDeadlineMs: 30_000,
  /** All attempts of one store request together. */
  operationDeadlineMs: 120_000,
  attemptsMax: 8,
  backoffBaseMs: 50,
  backoffMaxMs: 5_000,

  /** Compare-and-swap rounds of one recorder or compactor call before it gives up. */
  contentionRoundsMax: 32,
  /** Requests in flight of one refresh, fold or scan. */
  parallelMax: 64,

  /** An entry holds at most this many records and bytes of JSON; a batch waits at most this long. */
  batchRecordsMax: 1_000,
  batchBytesMax: 1024 * 1024,
  batchWaitMs: 0,
  /** Records waiting in one org's append queue before appends are refused. */
  queueRecordsMax: 100_000,

  /**
   * A compactor on a schedule folds a tail of so many entries or records, or of this age, and leaves what is less to a later
   * pass; an announcement that nothing confirms is folded after so long. Reasons: docs/adr/0010-folds-that-are-worth-it.md.
   */
  foldAfterMs: 600_000,
  foldEntriesMin: 250,
  foldRecordsMin: 500,
  foldIntentAgeMs: 30_000,

  /** |server time − time in the name| of an acknowledged entry. */
  entryLagMaxMs: 30_000,
  /** Some stores tell an object's creation in whole seconds only; graces are longer by this. */
  serverTimeResolutionMs: 1_000,
  /** From a commit until the entries (parts) it made unneeded may be deleted. */
  entryGraceMs: 120_000,
  partGraceMs: 3_600_000,
  /** Unreferenced objects younger than this are never touched. */
  orphanAgeMs: 24 * 3_600_000,
  intentTtlMs: 24 * 3_600_000,
  /** A canonical write takes effect within this long of its intent, or was given up by its writer. */
  lateWriteMaxMs: 300_000,
  tombstoneTtlMs: 7 * 24 * 3_600_000,
  /** How long one process trusts that its dirty marker stands. */
  markerCacheMs: 60_000,

  /** From reading or writing a canonical run until its record is sent, at most: older ones are not sent any more. */
  recordAgeMaxMs: 300_000,
  /**
   * Rows that changed more recently stay in the head, which alone can tell that a late record is stale. Longer than
   * twice `recordAgeMaxMs`, `operationDeadlineMs` and a late landing together.
   */
  sealAgeMs: 900_000,

  /** Heartbeats of one run reach the log at most this often. */
  heartbeatIndexIntervalMs: 60_000,

  /** One chunk of a trace, and the whole log of one attempt. */
  traceChunkBytesMax: 4 * 1024 * 1024,
  traceBytesMax: 128 * 1024 * 1024,
  /**
   * All chunks of one attempt, also those that say again or contradict what others say: honest repeats under another
   * cutting have room beside the log. Each process finds out after every eighth of either that it wrote.
   */
  traceStoredBytesMax: 2 * 128 * 1024 * 1024,
  traceChunksMax: 100_000,
  /** How long a process trusts that a trace is open. */
  traceCheckMs: 60_000,
  /** Output of an attempt is taken until so long after its end. */
  traceLateMs: 180_000,
  /**
   * From the end of an attempt until its trace may be archived. Longer than `traceLateMs`, `traceCheckMs` and
   * `operationDeadlineMs` together, by what clocks may be off: an acknowledged chunk is there by then.
   */
  traceSettleMs: 600_000,
  /** Uncompressed bytes per frame of an archive: what a range reads at least. */
  traceFrameBytes: 1024 * 1024,
  /** An archive up to this size is read by one request. */
  traceWholeBytesMax: 256 * 1024,
  /** Tries to archive a trace, and within what time; then what survives is archived with gaps. */
  traceAttemptsMax: 8,
  traceWindowMs: 48 * 3_600_000,
  /** A window may not be set shorter: a store that is away for a while must not cost a log its bytes. */
  traceWindowMinMs: 3_600_000,
  traceBackoffBaseMs: 60_000,
  traceBackoffMaxMs: 12 * 3_600_000,
  /** Nothing that no archive holds is deleted before it is this old. Longer than `traceWindowMs`. */
  traceChunkLifetimeMs: 7 * 24 * 3_600_000,
  /** Who is at a trace for longer than this has died or will find that it was late. */
  traceClaimMs: 600_000,
  /** Runs per window of an archive pass, runs at a time, and chunk bytes in memory per run. */
  traceWindowRuns: 64,
  traceParallel: 2,
  traceReadAheadBytesMax: 16 * 1024 * 1024,
  /** One org's archive pass. */
  traceBudgetMs: 60_000,
  /** What one log may take longer than that, per chunk of it; at most `traceClaimMs` in all. */
  traceChunkBudgetMs: 10,
  /** Runs that are being archived or have failed, per org. */
  traceWorkMax: 10_000,
  /** Gaps of one archive that the run lists. */
  traceGapsMax: 100,
  /** Policies may not be set to forget sooner: 1m is a minute, where a month was meant. */
  retainMinMs: 3_600_000,
  /** How often the retention of archives is looked at. */
  traceRetentionEveryMs: 3_600_000,

  /** Of an org whose version cannot be read, an error names at most so many that can. */
  versionsToldMax: 20,

  /** The sweep looks at active runs whose row is older than this. */
  sweepAgeMs: 180_000,

  /** Head parts up to this size travel inside the manifest. */
  inlineHeadBytesMax: 2 * 1024 * 1024,
  headRowsMax: 20_000,
  /** Parts of one level that merge into one of the next; parts are not merged beyond `historyRowsMax` rows. */
  mergeFanIn: 6,
  historyRowsMax: 8_000_000,
  /** Rows per Parquet row group. More than `headRowsMax`, which a head exceeds by what it may not seal: one group is read faster. */
  rowGroupRows: 40_000,
  /** Rows per row group of a history part: what one ranged read gives, and what a merge holds of each source. */
  historyGroupRows: 4_000,
  /** Row groups that lie at most this far apart are read by one request, of at most this many bytes. */
  historyGapBytesMax: 64 * 1024,
  historyRangeBytesMax: 8 * 1024 * 1024,
  /** One request of a merge, of which each source holds two at a time. */
  historyMergeRangeBytesMax: 2 * 1024 * 1024,
  /** Read at once by one history query before it hands out rows. */
  historyWaveBytesMax: 32 * 1024 * 1024,

  /** A reader re-reads the manifest at least this often, and when its overlay outgrows this many records. */
  manifestMaxAgeMs: 300_000,
  overlayRecordsMax: 20_000,
  /** A refresh that meets deleted objects or outlives half the grace starts over at most this often. */
  refreshAttemptsMax: 5,

  /** Of each operation in one probe of a store. */
  probeSamplesMax: 10_000,
};

export type Limits = typeof defaultLimits;

export function limits(changes: Partial<Limits> = {}): Limits {
  return { ...defaultLimits, ...changes };
}
