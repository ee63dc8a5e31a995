/**
 * CPU time of this thread, ms: what the wall clock would show if the core were ours alone. On a machine that others use
 * too it repeats where wall time does not.
 */
export function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}
