import { activeTrace } from '../telemetry/tracing.ts';

/** As pino's; nothing secret is ever passed to it. */
export interface Logger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export const silentLogger: Logger = { info() {}, warn() {}, error() {} };

/** Lines that belong to a request lead to its trace, where the process has an OpenTelemetry SDK. */
export function traced(logger: Logger): Logger {
  return {
    info: (fields, message) => logger.info({ ...activeTrace(), ...fields }, message),
    warn: (fields, message) => logger.warn({ ...activeTrace(), ...fields }, message),
    error: (fields, message) => logger.error({ ...activeTrace(), ...fields }, message),
  };
}
