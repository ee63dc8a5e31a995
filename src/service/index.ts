/** The HTTP service as a library: `runfold/service`. */
export type { Principal, Role } from './access.ts';
export { createService, type ServiceOptions } from './create.ts';
export { type ServiceLimits, serviceLimits } from './limits.ts';
export { type Listening, listen } from './listen.ts';
export type { Logger } from './logger.ts';
export type { Service } from './service.ts';
export {
  jwksVerifier,
  mintToken,
  type NewToken,
  secretVerifier,
  type TokenRules,
  type TokenVerifier,
} from './tokens.ts';
