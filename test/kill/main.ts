import { parseArgs } from 'node:util';
import { killAround } from './kill.ts';

/** `npm run kill -- [--kills 500] [--seed N]`: the long form of kill.test.ts. Exit code 1 when anything was lost. */
const { values } = parseArgs({
  options: { kills: { type: 'string', default: '500' }, seed: { type: 'string', default: '1' } },
});
const kills = Number(values.kills);
const result = await killAround(kills, Number(values.seed), (count) => {
  if (process.stderr.isTTY) process.stderr.write(`\r${count} of ${kills} killed `);
});
console.log(JSON.stringify(result, null, 2));
process.exitCode = result.problems.length > 0 ? 1 : 0;
