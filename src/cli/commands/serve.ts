import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { cronTrigger } from '../../../compactor/schedule.ts';
import { systemClock } from '../../core/clock.ts';
import { InputError } from '../../core/errors.ts';
import type { Limits } from '../../core/limits.ts';
import type { ResultStore } from '../../runs/results.ts';
import { type ServiceLimits, serviceLimits } from '../../service/limits.ts';
import type { TokenVerifier } from '../../service/tokens.ts';
import { type CommandContext, withSession } from '../context.ts';
import { addFoldOptions, type FoldOptions, foldPolicyOf } from '../fold-options.ts';
import { listening } from '../listening.ts';
import { durationOrOff, type GlobalOptions, port, positiveInteger } from '../options.ts';
import { resultsOption, withResults } from '../results.ts';
import { foldOnSchedule, sweepAtStart } from '../serve-upkeep.ts';
import { addTraceOptions, type TraceOptions, traceLimitsOf } from '../trace-options.ts';
import { audienceOption, issuerOption, secretFrom } from './token.ts';

const DEV_STORE = 'file:./runfold-data';
const DEV_ORG = 'demo';
const DEV_TOKEN_MS = 12 * 3_600_000;
/** Of stores that one host has to itself: nobody else would fold them. */
const EMBEDDED_SCHEDULE = '*/10 * * * * *';
/** There a request costs nothing, and whoever looks after runs that nobody calls for any more comes with the fold. */
const EMBEDDED_FOLD_AFTER_MS = 60_000;
const LOCAL = ['127.0.0.1', '::1', 'localhost'];

interface ServeOptions extends TraceOptions, FoldOptions {
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
  /** False: --no-compact. */
  compact?: string | false;
  maxFoldLag?: number | 'off';
  drainDelay?: number | 'off';
}

interface Auth {
  verifier: TokenVerifier;
  /** Of `--dev`: shown once. */
  token: string | null;
}

export function serveCommand(program: Command, signal: AbortSignal): void {
  const serving = program
    .command('serve')
    .description('serve lifecycle, catalog and OpenLineage over HTTP, to callers with a token');
  addTraceOptions(serving)
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
    .option(
      '--compact <cron>',
      `fold at these times, UTC (default: "${EMBEDDED_SCHEDULE}" for file: and memory:, else never)`,
    )
    .option('--no-compact', 'fold nothing: a runfold-compactor does');
  addFoldOptions(serving, '1m for file: and memory:, else 10m')
    .option(
      '--max-fold-lag <age>',
      'not ready when folds are behind by more, counted from 10m or a longer --fold-after; off: never mind (default: 15m)',
      durationOrOff,
    )
    .option(
      '--drain-delay <time>',
      'at SIGTERM, how long /readyz says no before no connection is taken (default: 5s; off with --dev)',
      durationOrOff,
    )
    .action(async (options: ServeOptions, command: Command) => {
      const limits = traceLimitsOf(options);
      const auth = await authOf(options);
      if (options.dev && command.optsWithGlobals<GlobalOptions>().store === undefined) {
        command.parent?.setOptionValueWithSource('store', DEV_STORE, 'default');
      }
      await withSession(
        command,
        signal,
        (context) =>
          withResults(
            command,
            context.session,
            (results) => serve(context, options, limits, auth, results, command.parent?.version()),
            { create: true },
          ),
        { create: true },
      );
    });
}

async function serve(
  { session, output, signal }: CommandContext,
  options: ServeOptions,
  limits: Limits,
  auth: Auth,
  results: ResultStore | null | undefined,
  version = '0',
): Promise<void> {
  // The libraries of the service load with it alone: other commands start without them.
  const [{ createService, listen }, { Metrics }, { pino }] = await Promise.all([
    import('../../service/index.ts'),
    import('../../telemetry/index.ts'),
    import('pino'),
  ]);
  const logger = pino(
    { level: process.env.RUNFOLD_LOG_LEVEL ?? 'info', base: null },
    pino.destination({ fd: 2, sync: false }),
  );
  const schedule = scheduleOf(session.store.url, options);
  const foldAfterMs = isEmbedded(session.store.url) ? EMBEDDED_FOLD_AFTER_MS : session.limits.foldAfterMs;
  const fold = foldPolicyOf(options, session.limits, foldAfterMs);
  const trigger = schedule === null ? null : cronTrigger(schedule);
  const metrics = new Metrics(
    trigger === null ? ['service', 'store'] : ['service', 'store', 'compactor'],
    version,
  );
  const service = createService({
    session,
    metrics,
    encodeArrow: async (rows) => (await import('../../snapshot/arrow.ts')).toArrowStream(rows),
    verifier: auth.verifier,
    version,
    logger,
    openMetrics: options.openMetrics ?? false,
    limits: limitsOf(options, session.limits.foldAfterMs),
  });
  const at = { port: options.port, host: options.host };
  const server = await listening(at, listen(service, at));
  const { url } = server;
  output.value({ url, docs: `${url}/docs`, store: session.store.url, compact: schedule, token: auth.token });
  output.line(`runfold serves ${session.store.url}`);
  output.line();
  output.line(`  ${url}/docs           what it can do`);
  output.line(`  ${url}/api/v1/lineage where OpenLineage clients post (their url: ${url})`);
  output.line(`  ${url}/readyz         whether it is ready`);
  output.line();
  output.line(
    schedule === null
      ? 'It folds nothing: let a runfold-compactor run beside it.'
      : `It folds what is new by itself (--compact "${schedule}"); --no-compact leaves that to a runfold-compactor.`,
  );
  if (auth.token !== null) tellDev(output, url, auth.token);
  const upkeep = [
    ...(results === undefined ? [] : [sweepAtStart(session, results, logger, signal)]),
    ...(trigger === null ? [] : [foldOnSchedule(session, trigger, fold, results, limits, logger, signal)]),
  ];
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  logger.info({}, 'draining');
  await Promise.all([server.close(), ...upkeep]);
  logger.flush();
}

/** When it folds; null: never. Any number of compactors may fold a store, so this one does no harm beside others. */
function scheduleOf(storeUrl: string, { compact }: ServeOptions): string | null {
  if (compact !== undefined) return compact === false ? null : compact;
  return isEmbedded(storeUrl) ? EMBEDDED_SCHEDULE : null;
}

function isEmbedded(storeUrl: string): boolean {
  return /^(file|memory):/.test(storeUrl);
}

function limitsOf(
  { rate, maxFoldLag = serviceLimits.foldLagMaxMs, foldAfter, dev, drainDelay }: ServeOptions,
  foldAfterMs: number,
): Partial<ServiceLimits> {
  const drain = drainDelay ?? (dev ? 'off' : undefined);
  // The service counts from the age at which folds are due by default.
  const laterMs = foldAfter === undefined || foldAfter === 'off' ? 0 : Math.max(0, foldAfter - foldAfterMs);
  return {
    ...(rate === undefined ? {} : { orgRequestsPerSecond: rate, orgBurst: 2 * rate }),
    foldLagMaxMs: maxFoldLag === 'off' ? Number.POSITIVE_INFINITY : maxFoldLag + laterMs,
    ...(drain === undefined ? {} : { drainDelayMs: drain === 'off' ? 0 : drain }),
  };
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
