import type { Dataset } from '../../runs/run.ts';

/** A pipeline job that runs again and again: what it reads and writes, and where it waits. */
export interface Job {
  kind: string;
  queue: string;
  reference_id: string;
  source_type: string;
  /** Typical length of a run. */
  minutes: number;
  inputs: Dataset[];
  outputs: Dataset[];
}

export interface DemoOrg {
  id: string;
  /** Its part of all runs. */
  share: number;
  jobs: Job[];
  /** The table whose lineage is shown. */
  showpiece: Dataset;
}

/** mart: the staging tables and marts it reads. */
type Marts = Readonly<Record<string, readonly string[]>>;

/** Sources are loaded into raw tables, each is cleaned into a staging table, marts join those, some are exported. */
export const ORGS: readonly DemoOrg[] = [
  org('acme', 0.6, 'postgres://shop:5432', {
    sources: ['orders', 'customers', 'products', 'payments', 'shipments', 'returns', 'sessions', 'campaigns'],
    marts: {
      revenue: ['staging.orders', 'staging.payments', 'staging.returns'],
      customer_value: ['staging.customers', 'mart.revenue', 'staging.sessions'],
      stock: ['staging.products', 'staging.shipments', 'staging.orders'],
      campaign_effect: ['staging.campaigns', 'staging.sessions', 'mart.customer_value'],
    },
    exports: ['campaign_effect', 'stock'],
    showpiece: 'customer_value',
  }),
  org('globex', 0.4, 'kafka://plant:9092', {
    sources: ['machines', 'sensors', 'shifts', 'alarms', 'parts', 'energy'],
    marts: {
      downtime: ['staging.machines', 'staging.alarms', 'staging.shifts'],
      yield: ['staging.parts', 'mart.downtime', 'staging.sensors'],
      energy_per_part: ['staging.energy', 'mart.yield'],
    },
    exports: ['energy_per_part'],
    showpiece: 'yield',
  }),
];

interface Layers {
  sources: readonly string[];
  marts: Marts;
  exports: readonly string[];
  showpiece: string;
}

function org(id: string, share: number, source: string, layers: Layers): DemoOrg {
  const jobs = [
    ...layers.sources.flatMap((name) => [
      job('ingest', name, 4, [{ namespace: source, name: `public.${name}` }], [table(`raw.${name}`)]),
      job('model', `staging_${name}`, 7, [table(`raw.${name}`)], [table(`staging.${name}`)]),
    ]),
    ...Object.entries(layers.marts).map(([name, inputs]) =>
      job('model', `mart_${name}`, 15, inputs.map(table), [table(`mart.${name}`)]),
    ),
    ...layers.exports.map((name) =>
      job('export', `export_${name}`, 2, [table(`mart.${name}`)], [{ namespace: 'dashboards', name }]),
    ),
  ];
  return { id, share, jobs, showpiece: table(`mart.${layers.showpiece}`) };

  function job(kind: string, name: string, minutes: number, inputs: Dataset[], outputs: Dataset[]): Job {
    const queue = { ingest: 'ingest', model: 'transform' }[kind] ?? 'export';
    const source_type = kind === 'ingest' ? source.split(':')[0]! : 'warehouse';
    return { kind, queue, reference_id: `${id}/${name}`, source_type, minutes, inputs, outputs };
  }
}

function table(name: string): Dataset {
  return { namespace: 'warehouse', name };
}
