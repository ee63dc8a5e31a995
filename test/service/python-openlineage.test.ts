import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { importEvents } from '../../src/openlineage/import.ts';
import { listen } from '../../src/service/listen.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { sharedFile, sharedMissing } from '../support/shared.ts';
import { worldOn } from '../support/world.ts';
import { serve, tokenFor } from './support.ts';

const run = promisify(execFile);
const VENV = resolve(import.meta.dirname, '../../.cache/python-openlineage');
const PYTHON = join(VENV, 'bin/python');
const FILES = ['marquez-seed', 'dbt-postgres-build', 'dbt-postgres-failed-run', 'spark-samples'];

const works = () => run(PYTHON, ['-c', 'import openlineage.client']);

/** The client of the OpenLineage project, as its users install it. Null when it is there, else the reason to skip by. */
async function clientMissing(): Promise<string | null> {
  try {
    if (!existsSync(PYTHON)) await run('python3', ['-m', 'venv', VENV]);
    await works().catch(async () => {
      await run(PYTHON, [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--disable-pip-version-check',
        'openlineage-python',
      ]);
      await works();
    });
    return null;
  } catch (error) {
    return `no python3 with openlineage-python: ${String(error).split('\n')[0]}`;
  }
}

/** Hands events to its HTTP transport, whole or with gzip; what it refuses is told, and the rest goes on. */
const SCRIPT = `
import json, sys
from openlineage.client.transport.http import HttpTransport, HttpConfig
url, key, compression = sys.argv[1:4]
config = {"type": "http", "url": url, "auth": {"type": "api_key", "apiKey": key}}
if compression: config["compression"] = compression
transport = HttpTransport(HttpConfig.from_dict(config))
class Raw:
    def __init__(self, event): self.event = event
import openlineage.client.transport.http as http
http.Serde.to_json = staticmethod(lambda event: json.dumps(event.event))
refused = []
for number, line in enumerate(sys.stdin):
    if not line.strip(): continue
    try: transport.emit(Raw(json.loads(line)))
    except Exception as error: refused.append([number, str(error)[:200]])
transport.close(1)
print(json.dumps(refused))
`;

/** The same, with the client's own classes: what a user's program does. */
const OWN = `
import sys, uuid
from datetime import datetime, timezone
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent, RunState, Run, Job, InputDataset, OutputDataset
from openlineage.client.transport.http import HttpTransport, HttpConfig
client = OpenLineageClient(transport=HttpTransport(HttpConfig.from_dict({"type": "http", "url": sys.argv[1], "auth": {"type": "api_key", "apiKey": sys.argv[2]}})))
run = Run(runId=sys.argv[3])
job = Job(namespace="own", name="job")
for state in (RunState.START, RunState.COMPLETE):
    client.emit(RunEvent(eventType=state, eventTime=datetime.now(timezone.utc).isoformat(), run=run, job=job, producer="https://example.com/own",
        inputs=[InputDataset("db", "in")], outputs=[OutputDataset("db", "out")]))
`;

function python(script: string, args: readonly string[], stdin: string): Promise<string> {
  return new Promise((done, failed) => {
    const child = execFile(
      PYTHON,
      ['-c', script, ...args],
      { maxBuffer: 1 << 24 },
      (error, stdout, stderr) => (error ? failed(new Error(`${error.message}\n${stderr}`)) : done(stdout)),
    );
    child.stdin!.end(stdin);
  });
}

const reason = (await clientMissing()) ?? sharedMissing('data', 'openlineage');

describe(`the Python client of OpenLineage${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  it.skipIf(reason !== null)(
    'posts real events, and the catalog is the one that an import gives',
    async () => {
      const served = await serve();
      const listening = await listen(served.service, { port: 0, host: '127.0.0.1' });
      try {
        const token = await tokenFor({ role: 'writer' });
        const expected = await worldOn(new MemoryStore({}), { seed: 9 });
        await Promise.all(
          FILES.map(async (name, i) => {
            const text = await readFile(sharedFile('data', 'openlineage', `${name}.ndjson`), 'utf8');
            const lines = text.split('\n').filter((line) => line.trim() !== '');
            const report = await importEvents({
              source: lines.map((line, index) => ({ file: name, line: index, json: JSON.parse(line) })),
              orgId: 'acme',
              record: async (orgId, runId, observations) => {
                const { changed } = await expected.session.recorder.observe(orgId, runId, observations);
                return changed ? 'changed' : 'unchanged';
              },
            });
            const refused = JSON.parse(
              await python(SCRIPT, [listening.url, token, i % 2 === 0 ? '' : 'gzip'], text),
            );
            expect(refused.map(([line]: [number]) => line)).toEqual(report.rejected.map(({ line }) => line));
          }),
        );
        const runId = '0193a000-0000-7000-8000-000000000001';
        const [got, want] = await Promise.all([served.world.read(), expected.read()]);
        const bare = (tables: readonly { namespace: string; name: string }[]) =>
          tables.map(({ namespace, name }) => `${namespace} ${name}`);
        expect(bare(got.tables()).length).toBeGreaterThan(30);
        expect(bare(got.tables())).toEqual(bare(want.tables()));
        const rows = async (org: typeof got) => {
          const all: Record<string, unknown> = {};
          // Revisions count writes, which an import does fewer of.
          for await (const { revision: _, ...row } of org.runs()) all[row.run_id] = row;
          return all;
        };
        expect(await rows(got)).toEqual(await rows(want));

        await python(OWN, [listening.url, token, runId], '');
        const { body } = await served.json('GET', `/v1/orgs/acme/runs/${runId}`);
        expect(body).toMatchObject({
          status: 'SUCCEEDED',
          reference_id: 'own/job',
          outputs: [{ name: 'out' }],
        });
        await expect(python(OWN, [listening.url, `${token}x`, runId], '')).rejects.toThrow(/401/);
      } finally {
        await listening.close();
      }
    },
  );
});
