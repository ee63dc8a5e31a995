import type { Command } from 'commander';
import { outputOf } from '../context.ts';
import type { DemoOptions } from '../demo/demo.ts';
import { positiveInteger } from '../options.ts';
import { EXIT, Exit } from '../run.ts';

export function demoCommand(program: Command, signal: AbortSignal): void {
  program
    .command('demo')
    .description('make two orgs in a temporary folder and read them in two ways; needs no --store')
    .option('--size <n>', 'runs to make', positiveInteger, 20_000)
    .option('--seed <n>', 'the same seed makes the same runs', positiveInteger, 1)
    .option('--keep', 'leave the store there and say where')
    .action(async (options: DemoOptions, command: Command) => {
      const { demo } = await import('../demo/demo.ts');
      if (!(await demo(outputOf(command), options, signal))) throw new Exit(EXIT.problem);
    });
}
