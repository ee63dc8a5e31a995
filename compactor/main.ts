#!/usr/bin/env node
import { checkNode } from '../src/cli/node-version.ts';

// Everything else is imported afterwards: an older Node would stop at the first import it does not know.
if (checkNode('runfold-compactor')) await (await import('../src/cli/compactor.ts')).main(process.argv);
