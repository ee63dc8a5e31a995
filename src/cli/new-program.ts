import { readFileSync } from 'node:fs';
import { Command, Help, type Option } from 'commander';
import { addGlobalOptions } from './options.ts';

/** A program with the options and manners that both bins share. */
export function newProgram(name: string, description: string): Command {
  const program = new Command(name)
    .description(description)
    .helpOption('--help', 'show this help')
    .configureHelp({ showGlobalOptions: true, visibleGlobalOptions })
    // One sentence on one line, the name that was meant included.
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: (.)/, capital).replace('\n(Did', ' (Did')),
    })
    .exitOverride()
    .showHelpAfterError(`hint: See ${name} --help.`);
  return addGlobalOptions(program);
}

/**
 * `--version` shows the version, but after a command's name it is that command's own option. Call it when all commands
 * are there.
 */
export function addVersion(program: Command, argv: readonly string[]): Command {
  const names = program.commands.map((command) => command.name());
  const first = argv.slice(2).find((word) => word === '--version' || names.includes(word));
  if (first !== undefined && first !== '--version' && argv.includes('--version')) return program;
  return program.version(version(), '--version', 'show the version');
}

function visibleGlobalOptions(this: Help, command: Command): Option[] {
  return Help.prototype.visibleGlobalOptions.call(this, command).filter(({ long }) => long !== '--version');
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
