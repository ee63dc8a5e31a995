import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFileStore } from '../../src/store/file.ts';
import { EVENTS, jsonOf, RUNFOLD, run, tempDir, writeEvents } from '../cli/support.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { worldOn } from '../support/world.ts';

const SECRET = 'a secret of a test that is long enough';

describe.concurrent('runfold serve', () => {
  it('refuses to start where nothing says how tokens are checked, and where two things do', async () => {
    const store = ['--store', `file:${join(tempDir(), 's')}?fsync=off`];
    const env = { RUNFOLD_TOKEN_SECRET: SECRET };
    const rows: [string[], Record<string, string>, RegExp][] = [
      [[], {}, /Nothing says how tokens are checked/],
      [['--dev'], env, /in one way only/],
      [['--jwks', 'https://issuer.test/keys'], env, /in one way only/],
      [['--jwks', 'http://issuer.test/keys'], {}, /not a key set's address/],
      [['--jwks', 'https://issuer.test/keys', '--algorithms', 'HS256'], {}, /cannot be signed with HS256/],
      [['--dev', '--host', '0.0.0.0'], {}, /this machine only/],
      [[], { RUNFOLD_TOKEN_SECRET: 'short' }, /32 are the least/],
      [['--dev', '--port', '70000'], {}, /port from 0 to 65535/],
    ];
    await Promise.all(
      rows.map(async ([args, given, message]) => {
        const ran = await run(RUNFOLD, ['serve', ...args, ...store], {
          env: { RUNFOLD_TOKEN_SECRET: '', ...given },
        });
        expect({ code: ran.code, stdout: ran.stdout }, args.join(' ')).toEqual({ code: 2, stdout: '' });
        expect(ran.stderr).toMatch(message);
        expect(ran.stderr).toMatch(/hint: /);
      }),
    );
  });

  it('--dev: tells three addresses and a token that works, and ends well at SIGTERM', async () => {
    const store = `file:${join(tempDir(), 's')}?fsync=off`;
    let asked: Promise<unknown> | null = null;
    const { code, stdout, stderr } = await run(RUNFOLD, ['serve', '--dev', '--port', '0', '--store', store], {
      env: { RUNFOLD_TOKEN_SECRET: '' },
      onOutput(text, kill) {
        const token = /TOKEN=(\S+)\n/.exec(text)?.[1];
        const url = /(http:\/\/\S+)\/docs/.exec(text)?.[1];
        if (asked !== null || token === undefined || url === undefined || !text.includes('curl')) return;
        asked = (async () => {
          const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
          const made = await fetch(`${url}/v1/orgs/demo/runs`, {
            method: 'POST',
            headers,
            body: '{"run_id":"r1"}',
          });
          const docs = await fetch(`${url}/docs`);
          const ready = await fetch(`${url}/readyz`);
          return [made.status, docs.status, ready.status];
        })().finally(() => kill('SIGTERM'));
      },
    });
    expect(await asked).toEqual([201, 200, 200]);
    expect(stdout.match(/^ {2}http:\S+/gm)).toHaveLength(3);
    expect(code).toBe(0);
    const token = /TOKEN=(\S+)\n/.exec(stdout)![1]!;
    expect(stderr).toContain('"route":"/v1/orgs/{org}/runs"');
    expect(stderr).not.toContain(token);
    const runs = (await jsonOf(run(RUNFOLD, ['runs', '--org', 'demo', '--store', store, '--json']))) as {
      run_id: string;
    }[];
    expect(runs.map(({ run_id }) => run_id)).toEqual(['r1']);
  });

  it('--results: what expired while nobody looked is removed at the start', async () => {
    const dir = tempDir();
    const clock = new FakeClock(Date.now() - 86_400_000);
    const at = { clock, fsync: false };
    const { recorder } = (await worldOn(await openFileStore(join(dir, 's'), at), { clock })).session;
    await recorder.create('acme', { run_id: 'r1' });
    await recorder.apply('acme', 'r1', { type: 'started', attempt: 1 });
    const uri = `file:${dir}/results/acme/r1/out`;
    const artifact = { type: 'put' as const, operator: 'scan', port: 'out', uri, ttl_ms: 1 };
    await recorder.apply('acme', 'r1', { type: 'artifact', attempt: 1, artifact });
    await recorder.apply('acme', 'r1', { type: 'succeeded', attempt: 1 });
    await (await openFileStore(join(dir, 'results'), at)).put(
      'acme/r1/out',
      new TextEncoder().encode('rows'),
    );
    const object = join(dir, 'results/acme/r1/out');
    expect(existsSync(object)).toBe(true);
    let ended = false;
    const ran = await run(
      RUNFOLD,
      [
        ...['serve', '--port', '0', '--no-compact', '--drain-delay', 'off', '--json'],
        ...['--store', `file:${dir}/s`, '--results', `file:${dir}/results`],
      ],
      {
        env: { RUNFOLD_TOKEN_SECRET: SECRET },
        onError(text, kill) {
          // A second signal would end it at once.
          if (!ended && text.includes('expired artifacts')) kill('SIGTERM');
          ended ||= text.includes('expired artifacts');
        },
      },
    );
    expect(existsSync(object)).toBe(false);
    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain('"org":"acme","artifacts":1,"waiting":0,"msg":"expired artifacts"');
  });

  it('folds an embedded store by itself and shows it in the metrics; with --no-compact it does not', async () => {
    const metricsOf = async (store: string, looks: number, ...more: string[]) => {
      let asked: Promise<string> | null = null;
      const args = ['serve', '--dev', '--open-metrics', '--port', '0', '--store', store, ...more];
      const ran = await run(RUNFOLD, args, {
        env: { RUNFOLD_TOKEN_SECRET: '' },
        onOutput(text, kill) {
          const url = /(http:\/\/\S+)\/docs/.exec(text)?.[1];
          if (asked !== null || url === undefined || !text.includes('curl')) return;
          asked = (async () => {
            for (let i = 0; ; i++) {
              const metrics = await (await fetch(`${url}/metrics`)).text();
              if (/runfold_folds_total{outcome="committed"} 1/.test(metrics) || i === looks) return metrics;
              await new Promise((resolve) => setTimeout(resolve, 100));
            }
          })().finally(() => kill('SIGTERM'));
        },
      });
      return { ...ran, metrics: await asked! };
    };
    const store = `file:${join(tempDir(), 's')}?fsync=off`;
    const events = writeEvents(join(tempDir(), 'events.ndjson'), EVENTS);
    await run(RUNFOLD, ['import', 'openlineage', events, '--org', 'demo', '--store', store]);
    const idle = await metricsOf(store, 3, '--no-compact');
    expect(idle.stdout).toContain('It folds nothing');
    expect(idle.metrics).not.toContain('runfold_fold');
    const folding = await metricsOf(store, 150, '--compact', '* * * * * *', '--fold-after', '2s');
    expect(folding.stdout).toContain('It folds what is new by itself (--compact "* * * * * *")');
    expect(folding.metrics).toContain('runfold_folds_total{outcome="committed"} 1');
    expect(folding.code).toBe(0);
    const wrong = await run(
      RUNFOLD,
      ['serve', '--dev', '--port', '0', '--store', store, '--compact', 'soon'],
      {
        env: { RUNFOLD_TOKEN_SECRET: '' },
      },
    );
    expect(wrong.stderr).toMatch(/"soon" is not a schedule/);
    expect(wrong.code).toBe(2);
  });

  it('takes the tokens that `runfold token` makes with its secret, and no others', async () => {
    const env = { RUNFOLD_TOKEN_SECRET: SECRET };
    const { token } = (await jsonOf(
      run(RUNFOLD, ['token', '--org', 'acme', '--role', 'writer', '--json'], { env }),
    )) as { token: string };
    const { token: everywhere } = (await jsonOf(
      run(RUNFOLD, ['token', '--org', '*', '--role', 'operator', '--json'], { env }),
    )) as { token: string };
    expect(await run(RUNFOLD, ['token', '--org', '*', '--role', 'writer'], { env })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Only an operator'),
    });
    const results = join(tempDir(), 'results');
    const foreign = await run(RUNFOLD, ['token', '--org', 'acme'], {
      env: { RUNFOLD_TOKEN_SECRET: `${SECRET}!` },
    });
    expect(
      await run(RUNFOLD, ['token', '--org', 'acme'], { env: { RUNFOLD_TOKEN_SECRET: '' } }),
    ).toMatchObject({ code: 2, stdout: '' });
    expect(await run(RUNFOLD, ['token', '--org', 'acme', '--role', 'worker'], { env })).toMatchObject({
      code: 2,
      stdout: '',
    });
    let asked: Promise<unknown> | null = null;
    await run(
      RUNFOLD,
      [
        'serve',
        '--port',
        '0',
        '--store',
        'memory:',
        '--results',
        `file:${results}`,
        '--drain-delay',
        'off',
        '--json',
      ],
      {
        env,
        onOutput(text, kill) {
          if (asked !== null || !text.includes('\n')) return;
          const { url } = JSON.parse(text) as { url: string };
          const status = async (bearer: string) =>
            (await fetch(`${url}/v1/orgs/acme/tables`, { headers: { authorization: `Bearer ${bearer}` } }))
              .status;
          asked = Promise.all([token, everywhere, foreign.stdout.trim()].map(status)).finally(() =>
            kill('SIGTERM'),
          );
        },
      },
    );
    expect(await asked).toEqual([200, 200, 401]);
    expect(existsSync(results)).toBe(true);
  });
});
