import { Problem } from './problem.ts';

export const ROLES = ['reader', 'writer', 'worker', 'operator'] as const;
export type Role = (typeof ROLES)[number];

/** Who asks, as the token says. */
export interface Principal {
  readonly subject: string | null;
  /** `*`: every org; operators only. */
  readonly orgs: ReadonlySet<string> | '*';
  readonly roles: ReadonlySet<Role>;
  /** A worker is bound to one run and one attempt of it. */
  readonly bound: { readonly run: string; readonly attempt: number } | null;
  /** ms since the epoch. */
  readonly expiresAt: number;
}

/**
 * What a route asks of its caller. `org: 'path'`: the token must name the org of the path. `org: 'token'`: the token
 * must name exactly one, which is then meant. `worker`: on its own run, a worker may too.
 */
export type Rule =
  | { readonly access: 'public' }
  | { readonly access: 'metrics' }
  | {
      readonly access: 'token';
      readonly org: 'path' | 'token';
      readonly roles: readonly Exclude<Role, 'worker'>[];
      readonly worker?: boolean;
    };

/** The rules that routes choose from. Writers read; operators do both. */
export const RULES = {
  public: { access: 'public' },
  metrics: { access: 'metrics' },
  read: { access: 'token', org: 'path', roles: ['reader', 'writer', 'operator'] },
  readRun: { access: 'token', org: 'path', roles: ['reader', 'writer', 'operator'], worker: true },
  write: { access: 'token', org: 'path', roles: ['writer', 'operator'] },
  work: { access: 'token', org: 'path', roles: ['writer', 'operator'], worker: true },
  operate: { access: 'token', org: 'path', roles: ['operator'] },
  events: { access: 'token', org: 'token', roles: ['writer', 'operator'] },
} as const satisfies Record<string, Rule>;

/** One body for every org that the token does not name, whether it exists or not. */
function orgNotFound(): Problem {
  return new Problem('ORG_NOT_FOUND', 'There is no such org for this token.');
}

/**
 * The org that the request is about. Throws ORG_NOT_FOUND before anything else of the request is looked at, so that
 * nothing about other orgs shows; then FORBIDDEN for a role that does not suffice, and RUN_NOT_FOUND for a worker
 * that asks for a run that is not its own, as for one that does not exist.
 */
export function authorize(
  rule: Extract<Rule, { access: 'token' }>,
  principal: Principal,
  path: { org?: string | undefined; run?: string | undefined },
): string {
  const org = rule.org === 'path' ? namedOrg(principal, path.org ?? '') : onlyOrg(principal);
  if (rule.roles.some((role) => principal.roles.has(role))) return org;
  if (rule.worker && principal.roles.has('worker') && principal.bound !== null) {
    if (path.run === principal.bound.run) return org;
    throw new Problem('RUN_NOT_FOUND', 'There is no such run in this org.', {
      hint: 'A worker token is for one run.',
    });
  }
  throw new Problem('FORBIDDEN', `The token needs one of the roles ${rule.roles.join(', ')}.`, {
    hint: 'Ask for a token with such a role.',
  });
}

function namedOrg({ orgs }: Principal, org: string): string {
  if (org !== '' && (orgs === '*' || orgs.has(org))) return org;
  throw orgNotFound();
}

function onlyOrg({ orgs }: Principal): string {
  const [org, second] = orgs === '*' ? [] : [...orgs];
  if (org !== undefined && second === undefined) return org;
  throw new Problem('INVALID_INPUT', 'The token names no org, or more than one.', {
    hint: 'This route takes the org from the token: use a token of one org.',
  });
}

/** A worker speaks for its own attempt only. */
export function checkAttempt({ bound }: Principal, attempt: number): void {
  if (bound === null || bound.attempt === attempt) return;
  throw new Problem('FORBIDDEN', `The token is for attempt ${bound.attempt}, not ${attempt}.`, {
    hint: 'Report the attempt that the token was made for.',
  });
}
