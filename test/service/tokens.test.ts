import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serviceLimits } from '../../src/service/limits.ts';
import { jwksVerifier } from '../../src/service/tokens.ts';
import { ORG } from '../support/runs.ts';
import { AUDIENCE, ISSUER, serve } from './support.ts';

interface Key {
  kid: string;
  privateKey: CryptoKey;
  jwk: object;
}

async function newKey(kid: string, alg: string): Promise<Key> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
}

function sign({ kid, privateKey }: Key, alg: string, claims: object = {}) {
  return new SignJWT({ orgs: [ORG], roles: ['reader'], ...claims })
    .setProtectedHeader({ alg, kid })
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setExpirationTime('5m')
    .sign(privateKey);
}

describe('a key set', () => {
  let server: Server;
  let url: string;
  let keys: object[] = [];
  let status = 200;
  let fetches = 0;
  let first: Key;
  beforeAll(async () => {
    first = await newKey('first', 'ES256');
    server = createServer((_, response) => {
      fetches++;
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ keys }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
  });
  afterAll(() => server.close());

  const served = (changes: Partial<typeof serviceLimits> = {}, algorithms?: string[]) =>
    serve(
      {},
      {
        verifier: jwksVerifier({
          issuer: ISSUER,
          audience: AUDIENCE,
          jwks: url,
          algorithms,
          limits: { ...serviceLimits, ...changes },
        }),
      },
    );
  const path = `/v1/orgs/${ORG}/tables`;

  it('is fetched once, and again for a key that is not known; a key that was taken out no longer counts', async () => {
    const { json } = await served({ jwksCooldownMs: 0 });
    keys = [first.jwk];
    fetches = 0;
    const token = await sign(first, 'ES256');
    for (let i = 0; i < 5; i++) expect((await json('GET', path, { token })).status).toBe(200);
    expect(fetches).toBe(1);
    const second = await newKey('second', 'EdDSA');
    keys = [second.jwk];
    expect((await json('GET', path, { token: await sign(second, 'EdDSA') })).status).toBe(200);
    const forgetful = await served({ jwksCooldownMs: 0, jwksMaxAgeMs: 50 });
    keys = [first.jwk];
    expect((await forgetful.json('GET', path, { token })).status).toBe(200);
    keys = [second.jwk];
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect((await forgetful.json('GET', path, { token })).status).toBe(401);
  });

  it('is not fetched for each of a flood of unknown keys', async () => {
    const { json } = await served();
    keys = [first.jwk];
    fetches = 0;
    const foreign = await newKey('foreign', 'ES256');
    for (let i = 0; i < 20; i++) {
      const token = await sign({ ...foreign, kid: `k${i}` }, 'ES256');
      expect((await json('GET', path, { token })).status).toBe(401);
    }
    expect(fetches).toBe(1);
  });

  it('refuses what another key has signed under a known id, and an algorithm that is not allowed', async () => {
    const { json } = await served({}, ['RS256']);
    keys = [first.jwk];
    const foreign = await newKey('first', 'ES256');
    expect((await json('GET', path, { token: await sign(foreign, 'ES256') })).status).toBe(401);
    expect((await json('GET', path, { token: await sign(first, 'ES256') })).status).toBe(401);
    const open = await served();
    expect((await open.json('GET', path, { token: await sign(foreign, 'ES256') })).status).toBe(401);
  });

  it('that is away says nothing about the token: 503, and come again', async () => {
    const { json, log } = await served();
    status = 500;
    const { status: answer, body, headers } = await json('GET', path, { token: await sign(first, 'ES256') });
    status = 200;
    expect([answer, body.code, headers.get('retry-after')]).toEqual([503, 'KEYS_UNAVAILABLE', '5']);
    expect(JSON.stringify(body)).not.toContain('127.0.0.1');
    expect(log.lines.join()).toContain('KEYS_UNAVAILABLE');
    expect((await json('GET', path, { token: await sign(first, 'ES256') })).status).toBe(200);
  });

  it.each([
    { org: ORG, role: 'reader', orgs: undefined, roles: undefined },
    { org: [ORG], role: ['reader'], orgs: undefined, roles: undefined },
    { orgs: ORG, roles: 'reader' },
    { orgs: [ORG], roles: ['reader'] },
  ])('org and role are a text or a list under either name: %j', async (claims) => {
    keys = [first.jwk];
    const { json } = await served();
    expect((await json('GET', path, { token: await sign(first, 'ES256', claims) })).status).toBe(200);
  });

  it('claims may lie in an object of their own', async () => {
    keys = [first.jwk];
    const { json } = await serve(
      {},
      {
        verifier: jwksVerifier({
          issuer: ISSUER,
          audience: AUDIENCE,
          jwks: url,
          claim: 'https://runfold/claims',
        }),
      },
    );
    const token = await sign(first, 'ES256', {
      orgs: ['other'],
      'https://runfold/claims': { org: ORG, role: 'reader' },
    });
    expect((await json('GET', path, { token })).status).toBe(200);
    expect((await json('GET', path, { token: await sign(first, 'ES256') })).status).toBe(401);
  });
});
