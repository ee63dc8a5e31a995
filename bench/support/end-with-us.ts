import type { ChildProcess } from 'node:child_process';

/** Nobody outlives the bench, however it ends but by SIGKILL. Whoever has something to remove is told by SIGTERM. */
export function endWithUs<T extends ChildProcess>(child: T, signal: NodeJS.Signals = 'SIGKILL'): T {
  const kill = () => void child.kill(signal);
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  return child;
}
