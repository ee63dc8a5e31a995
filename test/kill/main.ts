import { parseArgs } from 'node:util';
import { killBackfill } from './backfill.ts';
import { killAround } from './kill.ts';

/**
 * The long forms of the tests that kill. Exit code 1 when anything was lost.
 * `npm run kill -- [--kills 500] [--seed N]`: writers and compactors.
 * `npm run kill -- backfill [--runs 200000] [--kills 10] [--seed N]`: a backfill beside writers.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kills: { type: 'string' },
    seed: { type: 'string', default: '1' },
    runs: { type: 'string', default: '200000' },
    unit: { type: 'string', default: '5000' },
    within: { type: 'string', default: '15' },
  },
});
const tell = (text: string) => {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text} `);
};
const seed = Number(values.seed);
const result = await (positionals[0] === 'backfill'
  ? killBackfill({
      runs: Number(values.runs),
      kills: Number(values.kills ?? 10),
      seed,
      unitRuns: Number(values.unit),
      withinMs: Number(values.within) * 1000,
      onProgress: tell,
    })
  : around(Number(values.kills ?? 500)));
console.log(JSON.stringify(result, null, 2));
process.exitCode = result.problems.length > 0 ? 1 : 0;

function around(kills: number) {
  return killAround(kills, seed, (count) => tell(`${count} of ${kills} killed`));
}
