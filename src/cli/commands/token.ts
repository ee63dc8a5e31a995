import { type Command, Option } from 'commander';
import { systemClock } from '../../core/clock.ts';
import { InputError } from '../../core/errors.ts';
import { ROLES, type Role } from '../../service/access.ts';
import { outputOf } from '../context.ts';
import { orgsOrAllOption, positiveInteger } from '../options.ts';

export const DEFAULT_ISSUER = 'runfold';
export const DEFAULT_AUDIENCE = 'runfold';

interface TokenOptions {
  org: string[];
  role: Role;
  run?: string;
  attempt?: number;
  subject?: string;
  ttl: number;
  issuer: string;
  audience: string;
}

export function tokenCommand(program: Command, _signal: AbortSignal): void {
  program
    .command('token')
    .description('mint a token for `runfold serve` with the secret in RUNFOLD_TOKEN_SECRET')
    .addOption(
      orgsOrAllOption(
        "an org of the token; may be repeated; '*': every org, for operators only",
      ).makeOptionMandatory(),
    )
    .addOption(new Option('--role <role>', 'what it may do').choices(ROLES).default('reader'))
    .option('--run <run>', 'of a worker: the run it works on')
    .option('--attempt <n>', 'of a worker: the attempt it works on', positiveInteger)
    .option('--subject <name>', 'who it is for; shows in the logs')
    .option('--ttl <minutes>', 'how long it is good', positiveInteger, 60)
    .addOption(issuerOption())
    .addOption(audienceOption())
    .action(async (options: TokenOptions, command: Command) => {
      const { org, role, run, attempt, subject, ttl, issuer, audience } = options;
      const { mintToken } = await import('../../service/tokens.ts');
      const now = systemClock.now();
      const token = await mintToken({
        issuer,
        audience,
        secret: secretFrom(process.env),
        orgs: org,
        roles: [role],
        run,
        attempt,
        subject,
        ttlMs: ttl * 60_000,
        now,
      });
      const output = outputOf(command);
      output.value({ token, expires_at: now + ttl * 60_000 });
      output.line(token);
    });
}

export function issuerOption(): Option {
  return new Option('--issuer <name>', 'the issuer (claim `iss`) of tokens')
    .env('RUNFOLD_TOKEN_ISSUER')
    .default(DEFAULT_ISSUER);
}

export function audienceOption(): Option {
  return new Option('--audience <name>', 'the audience (claim `aud`) of tokens')
    .env('RUNFOLD_TOKEN_AUDIENCE')
    .default(DEFAULT_AUDIENCE);
}

/** Secrets come by the environment: a command line is in the process list and in the history of the shell. */
export function secretFrom(env: NodeJS.ProcessEnv): string {
  const secret = env.RUNFOLD_TOKEN_SECRET ?? '';
  if (secret !== '') return secret;
  throw new InputError('RUNFOLD_TOKEN_SECRET is not set.', {
    hint: 'Set it to the secret of the service, at least 32 bytes: `openssl rand -base64 48` makes one.',
  });
}
