/** The arrows of docs/PROTOCOL.md, "Layout": each layer may use itself and the layers before it, never a later one. */
const layers = [
  ['core', '^src/core/'],
  ['store', '^src/store/'],
  ['runs', '^src/runs/'],
  ['log, snapshot, manifest, traces', '^src/(log|snapshot|manifest|traces)/'],
  ['catalog', '^src/catalog/'],
  ['openlineage, versions', '^src/(openlineage|versions)/'],
  ['session', '^src/(session|index)\\.ts$'],
  ['compactor', '^compactor/(?!main\\.ts$)'],
  ['telemetry', '^src/telemetry/'],
  ['service, cli', '^src/(service|cli)/|^compactor/main\\.ts$'],
];

const upward = layers.slice(0, -1).map(([name, path], i) => ({
  name: `${name} uses nothing above it`,
  severity: 'error',
  from: { path },
  to: {
    path: layers
      .slice(i + 1)
      .map(([, later]) => later)
      .join('|'),
  },
}));

/** Benches look at it from outside, and may use what the tests use. */
const library = '^(src|compactor)/';

module.exports = {
  forbidden: [
    ...upward,
    {
      name: 'the library uses neither benches nor tests',
      severity: 'error',
      from: { path: library },
      to: { path: '^(bench|test)/' },
    },
    {
      // Types count: a file that names the type of one above it cannot be read alone. `tsPreCompilationDeps` shows them.
      name: 'no-circular',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'the file system belongs to adapters and commands',
      severity: 'error',
      from: {
        path: library,
        pathNot: '^src/store/file|^src/runs/sqlite-run-store\\.ts$|^src/cli/|^compactor/main\\.ts$',
      },
      to: { path: '^(node:)?(fs|fs/promises)$' },
    },
    {
      name: 'cloud SDKs belong to their adapter',
      severity: 'error',
      from: { pathNot: '^src/store/gcs' },
      to: { path: '@google-cloud' },
    },
    {
      name: 'database drivers belong to their adapter',
      severity: 'error',
      from: { path: library, pathNot: '^src/runs/postgres-run-store\\.ts$' },
      to: { path: 'node_modules/pg/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'Arrow and parquetjs load lazily, in their own file',
      severity: 'error',
      from: { pathNot: '^src/snapshot/(arrow|codec-parquetjs)\\.ts$' },
      to: { path: 'node_modules/(apache-arrow|parquetjs-lite)', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'OpenTelemetry belongs to src/telemetry, which nothing of the library loads',
      severity: 'error',
      from: { pathNot: '^src/telemetry/' },
      to: { path: '@opentelemetry/' },
    },
    {
      name: 'nothing unresolved',
      severity: 'error',
      from: {},
      // Types that lie in a .d.ts without its .js: tsc resolves those.
      to: { couldNotResolve: true, pathNot: 'crc-32|hyparquet-writer/src/types' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
