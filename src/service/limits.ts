/**
 * Every bound of the service, in one place; a value, so that tests and embedders may tighten it. Durations in ms.
 * What one run, entry or dataset may hold is in core/limits.ts.
 */
export const serviceLimits = {
  /** Of a request as it comes and as it is once decompressed; OpenLineage events carry facets and may be larger. */
  bodyBytesMax: 1024 * 1024,
  eventsBytesMax: 16 * 1024 * 1024,
  batchEventsMax: 10_000,
  /** Arrays and objects inside each other in one body. */
  nestingMax: 64,
  /** A body that has not come within this long is given up. */
  bodyDeadlineMs: 10_000,
  headerBytesMax: 16 * 1024,
  headersMax: 64,
  urlLengthMax: 8 * 1024,

  /** From the request to its answer, long polls and streams aside. */
  requestDeadlineMs: 30_000,
  /** How long a service that is about to end says so in /readyz and still takes requests: what is in front of it has to see it. */
  drainDelayMs: 5_000,
  /** A drain waits this long for requests in flight. */
  drainMs: 15_000,
  keepAliveMs: 65_000,

  tokenLengthMax: 8 * 1024,
  tokenOrgsMax: 200,
  /** How far clocks of issuers may be off. */
  tokenClockToleranceMs: 30_000,
  jwksMaxAgeMs: 600_000,
  jwksCooldownMs: 30_000,
  jwksDeadlineMs: 5_000,

  pageLimitDefault: 100,
  pageLimitMax: 1_000,

  /** Cached orgs, and answers made from them, in bytes of memory. */
  orgCacheBytesMax: 512 * 1024 * 1024,
  viewCacheBytesMax: 64 * 1024 * 1024,
  /** Without a wish of the caller: a catalog up to `freshMs` old is served as it is, up to `staleMs` while it is refreshed. */
  freshMs: 1_000,
  staleMs: 5_000,

  /** Per org: requests per second, and how many may come at once after a pause. */
  orgRequestsPerSecond: 500,
  orgBurst: 1_000,
  /** Per org: requests worked on, and waiting for that; the next is refused. */
  orgInFlightMax: 64,
  orgWaitingMax: 256,
  /** Of the whole process. */
  inFlightMax: 2_048,

  /** Changes: one wait, one stream, streams and polls per org, changes remembered per org, pause between looks. */
  waitMsMax: 25_000,
  streamMs: 300_000,
  watchersMax: 256,
  changesMax: 10_000,
  watchPauseMs: 1_000,
  /** A feed that nobody asked for this long is forgotten. */
  watchIdleMs: 120_000,

  /** Exports: at a time per org and in the whole process, how long one may take, rows that count as one request. */
  orgExportsMax: 2,
  exportsMax: 16,
  exportMs: 600_000,
  exportRowsPerRequest: 10_000,

  /** Per org: whole logs that are being read, followers of logs, and bytes of one of their events. */
  traceReadsMax: 32,
  followersMax: 256,
  followEventBytes: 64 * 1024,

  /** Answers from this size on are compressed. */
  compressBytesMin: 1_024,
  /**
   * Readiness: how long the store may take to answer; how often it is asked at most, whoever asks; how often the fold lag
   * of how many orgs is looked at; and how long entries may wait for their fold once they are due, that is `foldAfterMs` (core/
   * limits.ts) old. `Infinity`: for ever.
   */
  readyDeadlineMs: 2_000,
  readyProbeMs: 1_000,
  readyLookMs: 60_000,
  readyLookOrgs: 8,
  foldLagMaxMs: 900_000,
};

export type ServiceLimits = typeof serviceLimits;
