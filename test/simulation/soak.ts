import { setupOf } from './setups.ts';
import { simulate } from './simulate.ts';
const seed0 = Number(process.argv[2] ?? 1), n = Number(process.argv[3] ?? 5);
let ops = 0; const t0 = performance.now();
for (let seed = seed0; seed < seed0 + n; seed++) {
  const t = performance.now();
  const o = await simulate(setupOf(seed));
  ops += o.operations;
  console.log(seed, o.hash, o.operations, 'ops', o.acknowledgements, 'acks', o.refreshes, 'refr', o.commits, 'commits', o.deletions, 'del', o.crashes, 'cr', o.pauses, 'pa', Math.round(performance.now() - t), 'ms', Math.round(o.virtualMs/60000), 'vmin', o.coverage.runs.reached, o.coverage.tasks.reached, JSON.stringify(o.errors), JSON.stringify(o.violations.slice(0,3)));
  if (o.violations.length && process.argv[4]) console.log(o.tail);
}
console.log(ops, (performance.now()-t0)|0);
