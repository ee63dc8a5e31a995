import { randomBytes } from 'node:crypto';
import { type Command, InvalidArgumentError } from 'commander';
import { systemClock } from '../../core/clock.ts';
import { errorMessage, InputError } from '../../core/errors.ts';
import type { ResultStore } from '../../runs/results.ts';
import type { Logger } from '../../service/service.ts';
import type { TokenVerifier } from '../../service/tokens.ts';
import type { Session } from '../../session.ts';
import { type CommandContext, withSession } from '../context.ts';
import type { GlobalOptions } from '../options.ts';
import { positiveInteger } from '../options.ts';
import { resultsOption, withResults } from '../results.ts';
import { audienceOption, issuerOption, secretFrom } from './token.ts';

const DEV_STORE = 'file:./runfold-data';
const DEV_ORG = 'demo';
const DEV_TOKEN_MS = 12 * 3_600_000;
const LOCAL = ['127.0.0.1', '::1', 'localhost'];

interface ServeOptions {
  port: number;
  host: string;
  dev?: boolean;
  jwks?: string;
  algorithms?: string;
  claim?: string;
  issuer: string;
  audience: string;
  openMetrics?: boolean;
  rate?: number;
}

interface Auth {
  verifier: TokenVerifier;
  /** Of `--dev`: shown once. */
  token: string | null;
}

export function serveCommand(program: Command, signal: AbortSignal): void {
  program
    .command('serve')
    .description('serve lifecycle, catalog and OpenLineage over HTTP, to callers with a token')
    .option('--port <port>', '0 takes any that is free', port, 8080)
    .option('--host <address>', 'the address to listen on', '127.0.0.1')
    .option(
      '--dev',
      `for trying it: a secret of its own, a token of org ${DEV_ORG}, ${DEV_STORE} without --store`,
    )
    .option('--jwks <url>', 'verify tokens against this key set')
    .option(
      '--algorithms <names>',
      'that the key set may use, with commas between (default: RS256 and others)',
    )
    .option('--claim <name>', 'the claim that holds org and roles (default: they lie at the top)')
    .addOption(issuerOption())
    .addOption(audienceOption())
    .option('--open-metrics', 'let anybody read /metrics (default: operators)')
    .addOption(resultsOption())
    .option('--rate <n>', 'requests per second and org', positiveInteger)
    .action(async (options: ServeOptions, command: Command) => {
      const auth = await authOf(options);
      if (options.dev && command.optsWithGlobals<GlobalOptions>().store === undefined) {
        command.parent?.setOptionValueWithSource('store', DEV_STORE, 'default');
      }
      await withSession(
        command,
        signal,
        (context) =>
          withResults(command, context.session, (results) =>
            serve(context, options, auth, results, command.parent?.version()),
          ),
        { create: true },
      );
    });
}

async function serve(
  { session, output, signal }: CommandContext,
  options: ServeOptions,
  auth: Auth,
  results: ResultStore | null | undefined,
  version = '0',
): Promise<void> {
  // The libraries of the service load with it alone: other commands start without them.
  const [{ createService, listen }, { pino }] = await Promise.all([
    import('../../service/index.ts'),
    import('pino'),
  ]);
  const logger = pino(
    { level: process.env.RUNFOLD_LOG_LEVEL ?? 'info', base: null },
    pino.destination({ fd: 2, sync: false }),
  );
  const service = createService({
    session,
    encodeArrow: async (rows) => (await import('../../snapshot/arrow.ts')).toArrowStream(rows),
    verifier: auth.verifier,
    version,
    logger,
    openMetrics: options.openMetrics ?? false,
    limits:
      options.rate === undefined ? {} : { orgRequestsPerSecond: options.rate, orgBurst: 2 * options.rate },
  });
  const listening = await listen(service, { port: options.port, host: options.host });
  const { url } = listening;
  output.value({ url, docs: `${url}/docs`, store: session.store.url, token: auth.token });
  output.line(`runfold serves ${session.store.url}`);
  output.line();
  output.line(`  ${url}/docs           what it can do`);
  output.line(`  ${url}/api/v1/lineage where OpenLineage clients post (their url: ${url})`);
  output.line(`  ${url}/readyz         whether it is ready`);
  if (auth.token !== null) tellDev(output, url, auth.token);
  const sweep = results === undefined ? null : sweepAtStart(session, results, logger, signal);
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  logger.info({}, 'draining');
  await listening.close();
  await sweep;
  logger.flush();
}

/** What expired while nobody looked. Later on a compactor does it, on its schedule. Requests do not wait for it. */
async function sweepAtStart(
  session: Session,
  results: ResultStore | null,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const { expireOrg, listOrgs } = await import('../../../compactor/index.ts');
  try {
    for (const org of await listOrgs(session.store, signal)) {
      const done = await expireOrg(session, org, session.recorder, { results, signal }).catch(
        (error: unknown) => {
          if (signal.aborted) throw error;
          logger.error({ org, error: errorMessage(error) }, 'expired artifacts were not removed');
        },
      );
      if (done && done.artifacts.length > 0)
        logger.info({ org, artifacts: done.artifacts.length, waiting: done.waiting }, 'expired artifacts');
    }
  } catch (error) {
    if (!signal.aborted)
      logger.error({ error: errorMessage(error) }, 'expired artifacts were not looked for');
  }
}

function tellDev(output: CommandContext['output'], url: string, token: string): void {
  output.line();
  output.line(
    `--dev: the secret is new and dies with this process. A token for org ${DEV_ORG}, all roles, 12 hours:`,
  );
  output.line();
  output.line(`  export TOKEN=${token}`);
  output.line(`  curl -H "Authorization: Bearer $TOKEN" ${url}/v1/orgs/${DEV_ORG}/tables`);
  output.line();
}

/** No default: a service that nobody configured must not be one that everybody may use. */
async function authOf(options: ServeOptions): Promise<Auth> {
  const { dev, jwks, issuer, audience, claim, host } = options;
  const rules = { issuer, audience, claim };
  const { jwksVerifier, mintToken, secretVerifier } = await import('../../service/tokens.ts');
  const hasSecret = (process.env.RUNFOLD_TOKEN_SECRET ?? '') !== '';
  if ([dev === true, jwks !== undefined, hasSecret].filter(Boolean).length > 1) {
    throw new InputError('Tokens can be checked in one way only.', {
      hint: 'Use one of --jwks, RUNFOLD_TOKEN_SECRET and --dev.',
    });
  }
  if (jwks !== undefined) {
    const algorithms = options.algorithms?.split(',').map((name) => name.trim());
    return { verifier: jwksVerifier({ ...rules, jwks, algorithms }), token: null };
  }
  if (hasSecret)
    return { verifier: secretVerifier({ ...rules, secret: secretFrom(process.env) }), token: null };
  if (!dev) {
    throw new InputError('Nothing says how tokens are checked.', {
      hint: 'Add --jwks URL, or set RUNFOLD_TOKEN_SECRET; --dev tries it out on this machine.',
    });
  }
  if (!LOCAL.includes(host)) {
    throw new InputError(`--dev listens on this machine only, not on ${host}.`, {
      hint: 'For others to reach it, configure tokens: --jwks URL or RUNFOLD_TOKEN_SECRET.',
    });
  }
  const secret = randomBytes(48).toString('base64');
  const token = await mintToken({
    issuer,
    audience,
    secret,
    orgs: [DEV_ORG],
    roles: ['operator'],
    subject: 'dev',
    ttlMs: DEV_TOKEN_MS,
    now: systemClock.now(),
  });
  return { verifier: secretVerifier({ ...rules, secret }), token };
}

function port(value: string): number {
  const number = /^[0-9]{1,5}$/.test(value) ? Number(value) : -1;
  if (number >= 0 && number <= 65_535) return number;
  throw new InvalidArgumentError('It must be a port from 0 to 65535.');
}
