import {
  createRemoteJWKSet,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
  SignJWT,
} from 'jose';
import { z } from 'zod';
import { type Clock, systemClock } from '../core/clock.ts';
import { InputError } from '../core/errors.ts';
import { isId } from '../core/ids.ts';
import { type Principal, ROLES, type Role } from './access.ts';
import { type ServiceLimits, serviceLimits } from './limits.ts';
import { Problem } from './problem.ts';

/** Throws UNAUTHENTICATED for a token that is none, and KEYS_UNAVAILABLE where that could not be found out. */
export type TokenVerifier = (token: string) => Promise<Principal>;

export interface TokenRules {
  readonly issuer: string;
  readonly audience: string;
  readonly clock?: Clock;
  readonly limits?: ServiceLimits;
  /** The claim that holds an object with `org`, `roles` and so on; without it they lie at the top. */
  readonly claim?: string | undefined;
}

/** Public-key algorithms only: with a key set, a token "signed" with a public key as secret must never pass. */
export const JWKS_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519'] as const;
const SECRET_ALGORITHM = 'HS256';
const SECRET_BYTES_MIN = 32;

/** Verifies against a key set of an identity provider: fetched once, again when old, and when a key is not known. */
export function jwksVerifier(
  rules: TokenRules & { jwks: string; algorithms?: readonly string[] | undefined },
): TokenVerifier {
  const { limits = serviceLimits, algorithms = JWKS_ALGORITHMS } = rules;
  const wrong = algorithms.filter((name) => !(JWKS_ALGORITHMS as readonly string[]).includes(name));
  if (wrong.length > 0 || algorithms.length === 0) {
    throw new InputError(`Tokens of a key set cannot be signed with ${wrong.join(', ') || 'nothing'}.`, {
      hint: `Algorithms are ${JWKS_ALGORITHMS.join(', ')}.`,
    });
  }
  const keys = createRemoteJWKSet(jwksUrl(rules.jwks), {
    cacheMaxAge: limits.jwksMaxAgeMs,
    cooldownDuration: limits.jwksCooldownMs,
    timeoutDuration: limits.jwksDeadlineMs,
  });
  return verifier(rules, keys, algorithms);
}

/** Verifies against a shared secret: for development, or one issuer and one service that trust each other. */
export function secretVerifier(rules: TokenRules & { secret: string }): TokenVerifier {
  const key = secretKey(rules.secret);
  return verifier(rules, async () => key, [SECRET_ALGORITHM]);
}

function verifier(rules: TokenRules, keys: JWTVerifyGetKey, algorithms: readonly string[]): TokenVerifier {
  const { issuer, audience, clock = systemClock, limits = serviceLimits, claim } = rules;
  if (issuer === '' || audience === '') throw new InputError('Tokens need an issuer and an audience.');
  const options: JWTVerifyOptions = {
    issuer,
    audience,
    algorithms: [...algorithms],
    requiredClaims: ['exp'],
    clockTolerance: limits.tokenClockToleranceMs / 1_000,
  };
  return async (token) => {
    if (token.length > limits.tokenLengthMax) throw unauthenticated('The token is too long.');
    let payload: JWTPayload;
    try {
      ({ payload } = await jwtVerify(token, keys, { ...options, currentDate: new Date(clock.now()) }));
    } catch (error) {
      throw refusal(error);
    }
    return principalOf(payload, claim, limits);
  };
}

const orgClaim = z.string().refine((org) => org === '*' || isId(org), { error: 'is not an org id' });
/** Issuers differ in what they write under either name: a text, or a list of them. */
const oneOrMore = <S extends z.ZodType>(one: S) => z.union([one, z.array(one)]).optional();
const claimsSchema = z.object({
  org: oneOrMore(orgClaim),
  orgs: oneOrMore(orgClaim),
  role: oneOrMore(z.string()),
  roles: oneOrMore(z.string()),
  run: z
    .string()
    .refine((id) => isId(id), { error: 'is not a run id' })
    .optional(),
  attempt: z.number().int().positive().optional(),
});

function principalOf(payload: JWTPayload, claim: string | undefined, limits: ServiceLimits): Principal {
  const parsed = claimsSchema.safeParse(claim === undefined ? payload : payload[claim]);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw unauthenticated(`The claim ${issue?.path.join('.') || claim || ''} is not usable.`);
  }
  const { org = [], orgs = [], role = [], roles = [], run, attempt } = parsed.data;
  const named = new Set([org, orgs].flat(2));
  // Roles of other services may be in the same claim.
  const known = new Set(
    [role, roles].flat(2).filter((name): name is Role => (ROLES as readonly string[]).includes(name)),
  );
  if (named.size === 0 || named.size > limits.tokenOrgsMax) {
    throw unauthenticated(`The token names no org, or more than ${limits.tokenOrgsMax}.`);
  }
  if (known.size === 0) throw unauthenticated(`The token has none of the roles ${ROLES.join(', ')}.`);
  if (named.has('*') && (named.size > 1 || [...known].some((name) => name !== 'operator'))) {
    throw unauthenticated('Only an operator may have every org.');
  }
  const isWorker = known.has('worker');
  if (isWorker && (known.size > 1 || named.size > 1 || run === undefined || attempt === undefined)) {
    throw unauthenticated('A worker token has no other role, one org, one run and one attempt.');
  }
  return {
    subject: typeof payload.sub === 'string' ? payload.sub.slice(0, 128) : null,
    orgs: named.has('*') ? '*' : named,
    roles: known,
    bound: isWorker ? { run: run!, attempt: attempt! } : null,
    expiresAt: payload.exp! * 1_000,
  };
}

/** The key set being away says nothing about the token: that is no 401. */
function refusal(error: unknown): Problem {
  if (error instanceof errors.JWTExpired) return unauthenticated('The token has expired.');
  const aboutToken =
    error instanceof errors.JWTClaimValidationFailed ||
    error instanceof errors.JWTInvalid ||
    error instanceof errors.JWSInvalid ||
    error instanceof errors.JWSSignatureVerificationFailed ||
    error instanceof errors.JOSEAlgNotAllowed ||
    error instanceof errors.JOSENotSupported ||
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys;
  if (aboutToken) return unauthenticated('The token is not valid.', error);
  // jose answers some malformed tokens with a TypeError; nothing of the network does so without its own class.
  if (error instanceof TypeError && !/fetch/i.test(error.message))
    return unauthenticated('The token is not valid.', error);
  return new Problem('KEYS_UNAVAILABLE', 'The keys of the token issuer could not be fetched.', {
    cause: error,
  });
}

function unauthenticated(detail: string, cause?: unknown): Problem {
  return new Problem('UNAUTHENTICATED', detail, {
    cause,
    headers: { 'www-authenticate': 'Bearer realm="runfold", error="invalid_token"' },
  });
}

/** The token of `Authorization: Bearer …`; throws UNAUTHENTICATED. */
export function bearerOf(headers: Headers): string {
  const match = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i.exec(headers.get('authorization') ?? '');
  if (match !== null) return match[1]!;
  throw new Problem('UNAUTHENTICATED', 'The request has no bearer token.', {
    hint: 'Send `Authorization: Bearer <token>`.',
  });
}

export interface NewToken {
  readonly issuer: string;
  readonly audience: string;
  readonly secret: string;
  readonly orgs: readonly string[];
  readonly roles: readonly Role[];
  readonly run?: string | undefined;
  readonly attempt?: number | undefined;
  readonly subject?: string | undefined;
  /** Lifetime. */
  readonly ttlMs: number;
  /** ms since the epoch. */
  readonly now: number;
}

/** A token that a `secretVerifier` of the same secret accepts. Throws InputError for claims that it would refuse. */
export async function mintToken(token: NewToken): Promise<string> {
  const { issuer, audience, orgs, roles, run, attempt } = token;
  const issuedAt = Math.floor(token.now / 1_000);
  const payload: JWTPayload = {
    orgs: [...orgs],
    roles: [...roles],
    ...(run === undefined ? {} : { run }),
    ...(attempt === undefined ? {} : { attempt }),
    ...(token.subject === undefined ? {} : { sub: token.subject }),
    exp: issuedAt + Math.ceil(token.ttlMs / 1_000),
  };
  try {
    principalOf(payload, undefined, serviceLimits);
  } catch (error) {
    if (error instanceof Problem) throw new InputError(error.message);
    throw error;
  }
  return new SignJWT(payload)
    .setProtectedHeader({ alg: SECRET_ALGORITHM, typ: 'JWT' })
    .setIssuer(issuer)
    .setAudience(audience)
    .setIssuedAt(issuedAt)
    .sign(secretKey(token.secret));
}

function secretKey(secret: string): Uint8Array {
  const key = new TextEncoder().encode(secret);
  if (key.length >= SECRET_BYTES_MIN) return key;
  throw new InputError(`The token secret has ${key.length} bytes; ${SECRET_BYTES_MIN} are the least.`, {
    hint: 'Make one with `openssl rand -base64 48`.',
  });
}

/** Keys over plain HTTP could be anybody's; on this machine nobody is between. */
function jwksUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  const local = url !== null && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (url !== null && (url.protocol === 'https:' || (url.protocol === 'http:' && local))) return url;
  throw new InputError(`${JSON.stringify(text)} is not a key set's address.`, {
    hint: 'It starts with https:// (http:// only on localhost).',
  });
}
