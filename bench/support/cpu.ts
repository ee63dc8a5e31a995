/**
 * CPU time of this thread, ms: what the wall clock would show if the core were ours alone. On a machine that others use
 * too it repeats where wall time does not. Linux may count it in ticks of 4 ms: then single values are that coarse, and
 * means of many are not.
 */
export function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}
