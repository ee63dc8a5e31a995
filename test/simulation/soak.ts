import { parseArgs } from 'node:util';
import { systemClock } from '../../src/core/clock.ts';
import { systemRandom } from '../../src/core/random.ts';
import { failureOf, Report } from './report.ts';
import { setupOf } from './setups.ts';
import { simulate } from './simulate.ts';

const USAGE = `npm run soak -- [--minutes N] [--seed N] [--json]

Simulates runfold from fresh seeds for N minutes (default 5) and reports what it went through.
--seed N   replays one seed and prints its history's hash, or the laws it broke and each actor's last events.
--first N  counts up from seed N instead of a random one.
--json     prints one JSON object.`;

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string' },
    first: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

if (options.help) console.log(USAGE);
else process.exitCode = (await soak()) ? 0 : 1;

async function soak(): Promise<boolean> {
  const report = new Report();
  const began = systemClock.monotonic();
  const until = began + Number(options.minutes) * 60_000;
  let seed = Number(options.seed ?? options.first ?? systemRandom.u32() % 1_000_000_000);
  do {
    const outcome = await simulate(setupOf(seed));
    report.add(outcome);
    if (outcome.violations.length > 0) console.error(failureOf(outcome));
    else if (options.seed !== undefined)
      console.error(`Seed ${seed} keeps the laws; history ${outcome.hash}.`);
    seed++;
  } while (options.seed === undefined && systemClock.monotonic() < until);
  const seconds = Math.round((systemClock.monotonic() - began) / 1000);
  console.log(options.json ? JSON.stringify({ seconds, ...report.json() }) : report.text());
  return report.failed.length === 0;
}
