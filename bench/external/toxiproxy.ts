import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, goTool } from '../../test/support/binaries.ts';

const TOOL = {
  name: 'toxiproxy-server',
  package: 'github.com/Shopify/toxiproxy/v2/cmd/server',
  version: '2.12.0',
};
const START_MS_MAX = 10_000;

export interface Slowness {
  /** Every answer comes this much later, ms. */
  latencyMs?: number;
  /** What answers of one connection get; null: all there is. */
  bytesPerSecond?: number | null;
}

export interface Toxiproxy {
  /** A port behind which `upstream` (`host:port`) answers as slowly as this. */
  slow(name: string, upstream: string, slowness: Slowness): Promise<number>;
  stop(): Promise<void>;
}

/**
 * Shopify's TCP proxy. Its bandwidth toxic is of one connection, which in HTTP/1.1 is one answer at a time, and works in
 * steps of a ms at the most; its latency toxic delays the first byte of what comes back, and what follows it at once no
 * more. Opening a connection is not delayed.
 */
export async function startToxiproxy(): Promise<Toxiproxy> {
  const binary = await goTool(TOOL);
  const port = await freePort();
  const child = spawn(binary, ['-host', '127.0.0.1', '-port', `${port}`], { stdio: 'ignore' });
  const kill = () => void child.kill('SIGKILL');
  process.once('exit', kill);
  const api = `http://127.0.0.1:${port}`;
  await answering(api);

  async function post(path: string, body: unknown): Promise<void> {
    const answer = await fetch(`${api}${path}`, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`toxiproxy refused ${path}: ${await answer.text()}`);
  }

  return {
    async slow(name, upstream, { latencyMs = 0, bytesPerSecond = null }) {
      const listen = await freePort();
      await post('/proxies', { name, listen: `127.0.0.1:${listen}`, upstream, enabled: true });
      const toxic = (type: string, attributes: object) =>
        post(`/proxies/${name}/toxics`, { type, stream: 'downstream', attributes });
      if (latencyMs > 0) await toxic('latency', { latency: latencyMs, jitter: 0 });
      // Its unit is 1 000 bytes per second.
      if (bytesPerSecond !== null)
        await toxic('bandwidth', { rate: Math.max(1, Math.round(bytesPerSecond / 1_000)) });
      return listen;
    },
    async stop() {
      process.off('exit', kill);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      kill();
      await gone;
    },
  };
}

async function answering(api: string): Promise<void> {
  for (const until = performance.now() + START_MS_MAX; performance.now() < until; await sleep(20)) {
    const answer = await fetch(`${api}/version`).catch(() => null);
    if (answer?.ok) return;
  }
  throw new Error(`toxiproxy did not answer within ${START_MS_MAX} ms`);
}
