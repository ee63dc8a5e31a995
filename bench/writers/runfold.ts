import { openCatalog } from '../../src/catalog/catalog.ts';
import { limits as limitsOf } from '../../src/core/limits.ts';
import { LogWriter } from '../../src/log/append.ts';
import type { Projection } from '../../src/runs/projection.ts';
import { resilient } from '../../src/store/resilient.ts';
import { calibrating, ServerClock } from '../../src/store/server-clock.ts';
import { verified } from '../../src/store/verified.ts';
import type { WriterKind } from './writer.ts';

/** As `openStore` and `openSession` wire it: retries, deadlines, checksums, the server's clock. */
export const runfoldWriter: WriterKind = {
  name: 'runfold',
  about:
    'one create-only entry under a unique name, group commit per process and org; a dirty marker per process, org and minute, which nobody waits for',
  prepare: async () => undefined,
  open(store, { clock, random }) {
    const limits = limitsOf();
    const serverClock = new ServerClock(clock);
    const safe = resilient(verified(store), { clock, random, limits });
    const log = new LogWriter(calibrating(safe, clock, serverClock), { clock, random, limits, serverClock });
    return {
      append: (orgId, row) => log.append(orgId, [{ kind: 'put', row }]),
      idle: () => log.idle(),
    };
  },
  async readBack(store, orgId) {
    const org = await openCatalog(store).org(orgId).refresh();
    const rows: Projection[] = [];
    for await (const row of org.runs()) rows.push(row);
    return rows;
  },
};
