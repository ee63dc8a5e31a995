/** One competitor of `bench -- rivals`, however it is reached. */
export interface Entrant {
  name: string;
  /** How it works, and its settings. */
  about: string;
  /** `requests`: billed one by one, as they were counted. `server`: somebody's machine, which is on all month. */
  billed: 'requests' | 'server';
  /** Puts the data where it belongs. Not measured. */
  prepare(): Promise<void>;
  /** One refresh, without latency: null when it gave exactly the rows of the data set, else the first difference. */
  check(): Promise<unknown>;
  /** One refresh with latency. */
  refresh(): Promise<Refreshed>;
  close?(): Promise<void>;
}

export interface Refreshed {
  ms: number;
  rows: number;
}
