import { denseLogWriter } from './dense-log.ts';
import { jsonIndexWriter } from './json-index.ts';
import { runfoldWriter } from './runfold.ts';
import type { WriterKind } from './writer.ts';

/** In the order of the report. */
export const WRITERS: readonly WriterKind[] = [runfoldWriter, jsonIndexWriter, denseLogWriter];
