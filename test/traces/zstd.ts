import { execFileSync } from 'node:child_process';

/** Whether the `zstd` command is not on this machine. */
export function zstdMissing(): boolean {
  try {
    execFileSync('zstd', ['--version'], { stdio: 'ignore' });
    return false;
  } catch {
    return true;
  }
}
