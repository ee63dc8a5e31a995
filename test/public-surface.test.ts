import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = new URL('../', import.meta.url);
const INDEX = 'src/index.ts';

/** Every name that the file exports, types marked; only named re-exports are understood, which is the rule. */
function exportsOf(file: string): string[] {
  const source = ts.createSourceFile(
    file,
    readFileSync(new URL(file, root), 'utf8'),
    ts.ScriptTarget.Latest,
    true,
  );
  return source.statements.flatMap((statement) => {
    if (
      !ts.isExportDeclaration(statement) ||
      !statement.exportClause ||
      !ts.isNamedExports(statement.exportClause)
    )
      throw new Error(`${file}: only named re-exports, not: ${statement.getText(source).slice(0, 60)}`);
    return statement.exportClause.elements.map((element) =>
      statement.isTypeOnly || element.isTypeOnly ? `type ${element.name.text}` : element.name.text,
    );
  });
}

/** The URLs of all modules that a fresh process loads for `code`. */
async function loadedBy(code: string): Promise<string[]> {
  const script = `
    import { registerHooks } from 'node:module';
    const loaded = [];
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
    ${code}
    process.stdout.write(JSON.stringify(loaded));
  `;
  const args = ['--input-type=module', '--no-warnings', '--eval', script];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root });
  return JSON.parse(stdout) as string[];
}

const FORBIDDEN =
  /node_modules\/(@google-cloud|google-auth-library|gaxios|@opentelemetry|apache-arrow|parquetjs-lite|commander|cli-)/;

describe('the public surface', () => {
  it('is exactly this: removing or renaming is a breaking change, adding is a decision', () => {
    expect(exportsOf(INDEX).sort()).toEqual([
      'Catalog',
      'CorruptError',
      'FormatError',
      'InputError',
      'LifecycleError',
      'OrgCatalog',
      'OutcomeUnknownError',
      'RUN_STATUSES',
      'RunfoldError',
      'StoreError',
      'defaultLimits',
      'isTerminal',
      'openCatalog',
      'openSession',
      'openStore',
      'type Appended',
      'type Artifact',
      'type ArtifactEvent',
      'type CatalogOptions',
      'type Dataset',
      'type Ending',
      'type ErrorCode',
      'type Limits',
      'type Lineage',
      'type LineageDirection',
      'type LineageEdge',
      'type LineageQuery',
      'type NewArtifact',
      'type NewChunk',
      'type NewRun',
      'type ObjectStore',
      'type Observation',
      'type OpenStoreOptions',
      'type Projection',
      'type Recorded',
      'type Recorder',
      'type RefreshOptions',
      'type RefreshStats',
      'type Run',
      'type RunBrief',
      'type RunEvent',
      'type RunFilter',
      'type RunStatus',
      'type Session',
      'type SessionOptions',
      'type TableView',
      'type TaskEvent',
      'type TraceQuery',
      'type TraceSlice',
      'type TraceState',
      'type Traces',
    ]);
  });

  it('every value is there at run time, and nothing else', async () => {
    const values = exportsOf(INDEX).filter((name) => !name.startsWith('type '));
    expect(Object.keys(await import('../src/index.ts')).sort()).toEqual(values.sort());
  });
});

describe('importing the root', () => {
  it('loads no cloud SDK, no Arrow and no second codec; nor does recording and refreshing', async () => {
    const loaded = await loadedBy(`
      const { openStore, openSession } = await import('./src/index.ts');
      const store = await openStore('memory:');
      const session = openSession(store);
      await session.recorder.create('acme', { run_id: 'r1' });
      const catalog = await session.catalog.org('acme').refresh();
      if (catalog.active().length !== 1) throw new Error('the run is not there');
      await session.close();
    `);
    expect(loaded.filter((url) => url.endsWith('/src/index.ts'))).toHaveLength(1);
    expect(loaded.filter((url) => FORBIDDEN.test(url))).toEqual([]);
    expect(loaded.some((url) => url.endsWith('/src/store/gcs.ts'))).toBe(false);
  });

  it('an adapter loads with its scheme, Arrow with toArrow: the check above would see them', async () => {
    const loaded = await loadedBy(`
      const { openStore, openCatalog } = await import('./src/index.ts');
      const store = await openStore('memory:');
      await (await openCatalog(store).org('acme').refresh()).toArrow();
    `);
    expect(loaded.some((url) => /node_modules\/apache-arrow/.test(url))).toBe(true);
    expect(loaded.some((url) => FORBIDDEN.test(url))).toBe(true);
  });
});
