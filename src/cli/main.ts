#!/usr/bin/env node
import { checkNode } from './node-version.ts';

// Everything else is imported afterwards: an older Node would stop at the first import it does not know.
if (checkNode('runfold')) await (await import('./program.ts')).main(process.argv);
