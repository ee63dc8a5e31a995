import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, goTool } from '../../test/support/binaries.ts';

const TOOL = {
  name: 'toxiproxy-server',
  package: 'github.com/Shopify/toxiproxy/v2/cmd/server',
  version: '2.12.0',
};
const START_MS_MAX = 10_000;

export interface Toxiproxy {
  /** A port whose every answer from `upstream` (`host:port`) comes this much later. */
  slow(name: string, upstream: string, latencyMs: number): Promise<number>;
  stop(): Promise<void>;
}

/**
 * Shopify's TCP proxy. Its latency toxic delays the first byte of what comes back, and what follows it at once no more:
 * the same for everybody, without jitter. Opening a connection is not delayed, bandwidth is not limited.
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
    async slow(name, upstream, latencyMs) {
      const listen = await freePort();
      await post('/proxies', { name, listen: `127.0.0.1:${listen}`, upstream, enabled: true });
      if (latencyMs > 0) {
        const toxic = {
          type: 'latency',
          stream: 'downstream',
          attributes: { latency: latencyMs, jitter: 0 },
        };
        await post(`/proxies/${name}/toxics`, toxic);
      }
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
