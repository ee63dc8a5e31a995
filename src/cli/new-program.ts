import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { addGlobalOptions } from './options.ts';

/** A program with the options and manners that both bins share. */
export function newProgram(name: string, description: string): Command {
  const program = new Command(name)
    .description(description)
    .version(version(), '--version', 'show the version')
    .helpOption('--help', 'show this help')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: (.)/, capital)) })
    .exitOverride()
    .showHelpAfterError(`hint: See ${name} --help.`);
  return addGlobalOptions(program);
}

function capital(_match: string, first: string): string {
  return `error: ${first.toUpperCase()}`;
}

/** From the package this file belongs to: two folders up in the repository, three in dist. */
function version(): string {
  for (const path of ['../../package.json', '../../../package.json']) {
    try {
      const found: unknown = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));
      const { name, version } = found as { name?: string; version?: string };
      if (name === 'runfold' && version !== undefined) return version;
    } catch {
      // Not there: the next one.
    }
  }
  return 'unknown';
}
