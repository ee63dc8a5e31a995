import { artifactKey, kindOf } from '../runs/artifacts.ts';
import { project } from '../runs/projection.ts';
import type { Artifact, Run, Task } from '../runs/run.ts';
import type { ArtifactView, Execution } from './schemas.ts';

/** All artifacts of a run, by operator and port; those that were replaced stand behind the one that is there now. */
export function artifactsOf(run: Run): ArtifactView[] {
  return Object.entries(run.artifacts)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, artifact]) => artifactOf(artifact, key));
}

export function artifactOf(artifact: Artifact, key = artifactKey(artifact)): ArtifactView {
  return { ...artifact, kind: kindOf(artifact.port), replaced: key !== artifactKey(artifact) };
}

/**
 * What a cost-based scheduler asks of an execution: how long it and its operators took, and what they reported. An
 * operator is a task, or what left an artifact in the run's last attempt.
 */
export function executionOf(run: Run): Execution {
  const artifacts = artifactsOf(run).filter(({ attempt, replaced }) => attempt === run.attempt && !replaced);
  const names = new Set([...Object.keys(run.tasks), ...artifacts.map(({ operator }) => operator)]);
  return {
    run: project(run),
    duration_ms: spanOf(run),
    operators: [...names].sort().map((operator) =>
      operatorOf(
        operator,
        Object.hasOwn(run.tasks, operator) ? run.tasks[operator]! : null,
        artifacts.filter((artifact) => artifact.operator === operator),
      ),
    ),
  };
}

function operatorOf(
  operator: string,
  task: Task | null,
  artifacts: ArtifactView[],
): Execution['operators'][number] {
  const results = artifacts.filter(({ kind }) => kind === 'result');
  const figures = artifacts.filter(({ statistics }) => statistics !== null);
  return {
    operator,
    status: task?.status ?? null,
    attempt: task?.attempt ?? null,
    started_at: task?.started_at ?? null,
    finished_at: task?.finished_at ?? null,
    duration_ms: task && spanOf(task),
    rows: sumOf(results.map(({ rows }) => rows)),
    bytes: sumOf(results.map(({ bytes }) => bytes)),
    statistics: figures.length === 0 ? null : Object.assign({}, ...figures.map((one) => one.statistics)),
    artifacts,
  };
}

function spanOf({ started_at, finished_at }: Pick<Task, 'started_at' | 'finished_at'>): number | null {
  return started_at === null || finished_at === null ? null : Math.max(0, finished_at - started_at);
}

/** Null where nothing was told: that is not zero. */
function sumOf(numbers: readonly (number | null)[]): number | null {
  const told = numbers.filter((n) => n !== null);
  return told.length === 0 ? null : told.reduce((a, b) => a + b, 0);
}
