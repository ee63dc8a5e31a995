import {
  type Attributes,
  context,
  isSpanContextValid,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  trace,
} from '@opentelemetry/api';
import { isRunfoldError } from '../core/errors.ts';
import type { Facts, Operation, Start, Watcher, Watching } from '../core/telemetry.ts';

/** Of HTTP requests, after OpenTelemetry's semantic conventions; other facts are `runfold.<operation>.<fact>`. */
const CONVENTIONS: Readonly<Record<string, string>> = {
  'request.method': 'http.request.method',
  'request.route': 'http.route',
  'request.status': 'http.response.status_code',
  'request.code': 'runfold.code',
};

/**
 * Spans around requests, refreshes, appends and folds, for the OpenTelemetry SDK that the process has registered; without
 * one they cost next to nothing. They hold numbers, codes and the org's id: no token, no payload, nothing of a run.
 */
export const tracing: Watcher = {
  begin<O extends Operation>(operation: O, { parent, ...facts }: Start<O>): Watching<O> {
    const outer =
      parent === undefined ? context.active() : propagation.extract(context.active(), parent, HEADERS);
    const isRequest = operation === 'request';
    const { method, route } = facts as Facts<'request'>;
    const name = isRequest ? `${method} ${route}` : `runfold.${operation}`;
    const span = trace.getTracer('runfold').startSpan(
      name,
      {
        kind: isRequest ? SpanKind.SERVER : SpanKind.INTERNAL,
        attributes: attributesOf(operation, facts as Facts<O>),
      },
      outer,
    );
    const inner = trace.setSpan(outer, span);
    return {
      within: (work) => context.with(inner, work),
      end(ended, error) {
        if (span.isRecording()) {
          span.setAttributes(attributesOf(operation, ended));
          markFailure(span, ended as Facts<'request'>, error);
        }
        span.end();
      },
    };
  },
};

/** Of the span that is active here, for a line of a log; nothing where there is none. */
export function activeTrace(): { trace_id?: string; span_id?: string } {
  const span = trace.getSpanContext(context.active());
  if (span === undefined || !isSpanContextValid(span)) return {};
  return { trace_id: span.traceId, span_id: span.spanId };
}

const HEADERS: TextMapGetter<(header: string) => string | null> = {
  get: (read, header) => read(header) ?? undefined,
  keys: () => [],
};

function attributesOf<O extends Operation>(operation: O, facts: Facts<O>): Attributes {
  const attributes: Attributes = {};
  for (const [fact, value] of Object.entries(facts)) {
    if (value === undefined || fact === 'waits') continue;
    const name = fact === 'org' ? 'runfold.org' : `${operation}.${fact}`;
    attributes[CONVENTIONS[name] ?? (fact === 'org' ? name : `runfold.${name}`)] = value as string;
  }
  return attributes;
}

/** The code and no message: messages may quote what was stored. A refused request is its caller's failure. */
function markFailure(span: Span, { status = 0, code = '500' }: Facts<'request'>, error: unknown): void {
  if (error === null && status < 500) return;
  const type = error === null ? code : isRunfoldError(error) ? error.code : 'INTERNAL';
  span.setAttribute('error.type', type).setStatus({ code: SpanStatusCode.ERROR });
}
