import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';

const root = new URL('../', import.meta.url).pathname;
const CONFIG = '.dependency-cruiser.cjs';

interface Cruised {
  /** Files of ours that were looked at. */
  sources: string[];
  /** `rule: from → to` */
  violations: string[];
}

/** As `npm run layers` does it, in another folder if given. */
async function cruise(cwd: string): Promise<Cruised> {
  const bin = join(root, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs');
  const args = [bin, '--config', CONFIG, '--output-type', 'json', 'src', 'compactor'];
  // Exit code: the number of violations.
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd, maxBuffer: 1 << 28 }).catch(
    (error) => {
      if (typeof error.stdout === 'string' && error.stdout.startsWith('{'))
        return error as { stdout: string };
      throw error;
    },
  );
  const { modules, summary } = JSON.parse(stdout) as {
    modules: { source: string; dependencies: unknown[] }[];
    summary: { violations: { rule: { name: string }; from: string; to: string }[] };
  };
  return {
    sources: modules.map(({ source }) => source).filter((source) => /^(src|compactor)\//.test(source)),
    violations: summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} → ${to}`),
  };
}

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** A repository of nothing but these files, under the rules of this one. */
function planted(files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'runfold-layers-'));
  folders.push(folder);
  for (const name of [CONFIG, 'tsconfig.json', 'package.json'])
    copyFileSync(join(root, name), join(folder, name));
  for (const [name, text] of Object.entries({ 'compactor/nothing.ts': '', ...files })) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

describe('layers: arrows run downwards only', () => {
  it('no rule is broken, and the files that were looked at are the source files', async () => {
    const { sources, violations } = await cruise(root);
    expect(violations).toEqual([]);
    // With a TypeScript that it does not know, dependency-cruiser looks at nothing and says that all is well.
    const onDisk = ['src', 'compactor'].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
        .map((file) => `${folder}/${file}`),
    );
    expect(sources.filter((file) => !file.endsWith('.d.ts')).sort()).toEqual(onDisk.sort());
    expect(onDisk.length).toBeGreaterThan(60);
  });

  it('every kind of breach would be reported', async () => {
    const nothing = 'export const nothing = 0;\n';
    const folder = planted({
      'src/core/up.ts': "import { nothing } from '../store/x.ts';\nexport const a = nothing;\n",
      'src/store/x.ts': nothing,
      'src/runs/up.ts': "import type { T } from '../log/x.ts';\nexport type U = T;\n",
      'src/log/x.ts': 'export type T = 0;\n',
      'src/catalog/up.ts': "import { nothing } from '../../compactor/x.ts';\nexport const a = nothing;\n",
      'src/log/up.ts': "import { nothing } from '../catalog/x.ts';\nexport const a = nothing;\n",
      'src/catalog/x.ts': nothing,
      'compactor/x.ts': nothing,
      'compactor/up.ts': "export const a = () => import('../src/cli/x.ts');\n",
      'src/cli/x.ts': "import { readFileSync } from 'node:fs';\nexport const a = readFileSync;\n",
      'src/runs/disk.ts': "import { readFile } from 'node:fs/promises';\nexport const a = readFile;\n",
      'src/store/file.ts': "import { open } from 'node:fs/promises';\nexport const a = open;\n",
      'src/core/one.ts': "import { two } from './two.ts';\nexport const one = () => two;\n",
      'src/core/two.ts': "import { one } from './one.ts';\nexport const two = () => one;\n",
      'src/catalog/cloud.ts': "import { Storage } from '@google-cloud/storage';\nexport const a = Storage;\n",
      'src/log/trace.ts': "import { trace } from '@opentelemetry/api';\nexport const a = trace;\n",
      'src/core/gone.ts': "import { gone } from './not-there.ts';\nexport const a = gone;\n",
    });
    const { violations } = await cruise(folder);
    const breaches = violations.map((violation) => violation.replace(/^.*: /, '')).sort();
    expect(breaches).toEqual(
      expect.arrayContaining([
        'src/core/up.ts → src/store/x.ts',
        'src/runs/up.ts → src/log/x.ts',
        'src/log/up.ts → src/catalog/x.ts',
        'src/catalog/up.ts → compactor/x.ts',
        'compactor/up.ts → src/cli/x.ts',
        'src/runs/disk.ts → fs/promises',
        'src/core/one.ts → src/core/two.ts',
        'src/catalog/cloud.ts → @google-cloud/storage',
        'src/log/trace.ts → @opentelemetry/api',
      ]),
    );
    expect(breaches.some((breach) => breach.startsWith('src/core/gone.ts → '))).toBe(true);
    // What is allowed is not reported.
    expect(breaches.filter((breach) => /^src\/(store\/file|cli\/x)\.ts/.test(breach))).toEqual([]);
  });
});
