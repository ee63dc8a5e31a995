import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { runSchedule, type ScheduledPass, type Trigger } from '../../compactor/schedule.ts';
import { systemClock } from '../../src/core/clock.ts';
import { compactedSchema, inspectSchema } from './contract.ts';
import { COMPACTOR, EVENTS, jsonOf, onStore, RUNFOLD, run, tempDir, writeEvents } from './support.ts';

async function freePort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return String(port);
}

describe('runfold-compactor', () => {
  const dir = tempDir();
  const url = `file:${join(dir, 'store')}?fsync=off`;
  const runfold = onStore(url);
  const file = writeEvents(join(dir, 'events.ndjson'), EVENTS);

  beforeAll(async () => {
    for (const org of ['acme', 'globex']) await runfold('import', 'openlineage', file, '--org', org);
  });

  it('--fold-after leaves a short tail for later, and says so: in a line, and in the table', async () => {
    const fresh = `file:${join(dir, 'fresh')}?fsync=off`;
    // Without the failure of long ago: that may have taken an answer away, and is due.
    const short = writeEvents(join(dir, 'short.ndjson'), EVENTS.slice(0, 2));
    await run(RUNFOLD, ['import', 'openlineage', short, '--org', 'acme', '--store', fresh]);
    const line = await run(COMPACTOR, ['--once', '--fold-after', '1h', '--json', '--store', fresh]);
    expect(line).toMatchObject({ code: 0, stderr: '' });
    expect(compactedSchema.parse(JSON.parse(line.stdout))).toMatchObject({
      outcome: 'deferred',
      deferred: { entries: expect.any(Number), oldest_age_ms: expect.any(Number) },
      version: null,
      rows: null,
    });
    const table = await run(COMPACTOR, ['--once', '--fold-entries', '200', '--store', fresh]);
    expect(table.stdout).toMatch(/ORG +OUTCOME +VERSION .* DEFERRED/);
    expect(table.stdout).toMatch(/acme +deferred +- /);
    const due = await run(COMPACTOR, ['--once', '--fold-entries', '1', '--json', '--store', fresh]);
    expect(JSON.parse(due.stdout)).toMatchObject({ outcome: 'committed', due: 'entries', deferred: null });
  });

  it('--once folds what has a marker: one JSON line per org', async () => {
    const ran = await run(COMPACTOR, ['--once', '--json', '--store', url]);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const lines = ran.stdout
      .trimEnd()
      .split('\n')
      .map((line) => compactedSchema.parse(JSON.parse(line)));
    expect(lines.map(({ org_id }) => org_id).sort()).toEqual(['acme', 'globex']);
    expect(lines).toEqual(
      lines.map((line) => ({ ...line, outcome: 'committed', version: 1, rows: 4, pass: 1 })),
    );
  });

  it('--org folds that one', async () => {
    const ran = await run(COMPACTOR, ['--once', '--org', 'acme', '--store', url]);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout).toContain('pass 1: 1 org\n');
  });

  it('--schedule makes passes until SIGTERM, then exits with 0', async () => {
    let killed = false;
    let metrics: Promise<string> | null = null;
    const port = await freePort();
    const ran = await run(
      COMPACTOR,
      ['--schedule', '* * * * * *', '--full-every', '1', '--json', '--store', url, '--metrics-port', port],
      {
        onOutput: (stdout, kill) => {
          if (!stdout.includes('"pass":2') || killed) return;
          killed = true;
          metrics = fetch(`http://127.0.0.1:${port}/metrics`)
            .then((response) => response.text())
            .finally(() => kill('SIGTERM'));
        },
      },
    );
    expect(ran).toMatchObject({ code: 0, signal: null, stderr: '' });
    expect(await metrics).toMatch(/^runfold_passes_total{result="ok"} [12]$/m);
    expect(await metrics).toMatch(/^runfold_fold_ties_total 0$/m);
    expect(await metrics).not.toContain('acme');
    const lines = ran.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(
      lines
        .filter(({ pass }) => pass === 1)
        .map(({ org_id }) => org_id)
        .sort(),
    ).toEqual(['acme', 'globex']);
    const inspected = inspectSchema.parse(await jsonOf(runfold('inspect', '--org', 'acme', '--json')));
    expect(inspected).toMatchObject({ manifest: { version: 1 }, tail: { entries: 0 } });
  });
});

describe('schedule', () => {
  function manual() {
    let due: () => void = () => undefined;
    const trigger: Trigger = {
      start: (onDue) => {
        due = onDue;
      },
      stop: () => {
        due = () => undefined;
      },
    };
    return { trigger, fire: () => due() };
  }

  const turn = () => new Promise((resolve) => setImmediate(resolve));

  it('never overlaps, makes every Nth pass full, survives a failed pass', async () => {
    const { trigger, fire } = manual();
    const stop = new AbortController();
    const passes: ScheduledPass[] = [];
    const release: (() => void)[] = [];
    const ended = runSchedule({
      trigger,
      pass: async (pass) => {
        passes.push(pass);
        await new Promise<void>((resolve) => release.push(resolve));
        if (pass.number === 1) throw new Error('the store is away');
      },
      fullEvery: 3,
      stop: stop.signal,
      stopWithinMs: 1_000,
      clock: systemClock,
    });
    for (let i = 0; i < 4; i++) {
      fire();
      fire();
      await turn();
      release[i]!();
      await turn();
    }
    stop.abort();
    expect(await ended).toEqual({ passes: 4, skipped: 4 });
    expect(passes.map(({ full }) => full)).toEqual([false, false, true, false]);
  });

  it('lets a pass that runs finish, and aborts it when that takes too long', async () => {
    for (const [workMs, aborted] of [
      [20, false],
      [60_000, true],
    ] as const) {
      const { trigger, fire } = manual();
      const stop = new AbortController();
      let seen: boolean | null = null;
      const ended = runSchedule({
        trigger,
        pass: async ({ signal }) => {
          await systemClock.sleep(workMs, signal).catch(() => undefined);
          seen = signal.aborted;
        },
        fullEvery: 60,
        stop: stop.signal,
        stopWithinMs: 100,
        clock: systemClock,
      });
      fire();
      await turn();
      stop.abort();
      await ended;
      expect(seen).toBe(aborted);
    }
  });
});
