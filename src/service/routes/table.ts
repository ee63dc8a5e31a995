import type { Route } from '../route.ts';
import { artifactRoutes } from './artifacts.ts';
import { catalogRoutes } from './catalog.ts';
import { changesRoutes } from './changes.ts';
import { exportRoutes } from './export.ts';
import { lifecycleRoutes } from './lifecycle.ts';
import { openLineageRoutes } from './openlineage.ts';
import { operationRoutes } from './operations.ts';
import { referenceRoutes } from './references.ts';
import { taskRoutes } from './tasks.ts';
import { traceRoutes } from './trace.ts';

/** Every route there is: the app, the OpenAPI document and the tests are made from this table. */
export const ROUTES: readonly Route[] = [
  ...lifecycleRoutes,
  ...taskRoutes,
  ...artifactRoutes,
  ...traceRoutes,
  ...catalogRoutes,
  ...referenceRoutes,
  ...exportRoutes,
  ...changesRoutes,
  ...openLineageRoutes,
  ...operationRoutes,
];

/** The methods that some route has for this path: for 405 and its `Allow`. No id is empty: such a path is none. */
export function methodsFor(pathname: string): string[] {
  const parts = pathname.split('/');
  const fits = (path: string) => {
    const own = path.split('/');
    return (
      own.length === parts.length &&
      own.every((part, i) => (part.startsWith('{') ? parts[i] !== '' : part === parts[i]))
    );
  };
  return [...new Set(ROUTES.filter(({ path }) => fits(path)).map(({ method }) => method))];
}
