import { type Projection, tablesOf } from '../../src/runs/projection.ts';
import type { Dataset } from '../../src/runs/run.ts';

/**
 * What the head should say and does not: latest runs, latest successes and edges, over all rows that a version knows, are
 * those over the rows of its head. Worked out from projections, without the library's views.
 */
export function wrongAnswers(rows: readonly Projection[], isInHead: (runId: string) => boolean): string[] {
  const all = answersOf(rows);
  const head = answersOf(rows.filter(({ run_id }) => isInHead(run_id)));
  const wrong: string[] = [];
  for (const [question, { run_id }] of all) {
    const told = head.get(question)?.run_id;
    if (told !== run_id) wrong.push(`${question} is ${run_id}; the head says ${told}`);
  }
  return wrong;
}

function answersOf(rows: readonly Projection[]): Map<string, Projection> {
  const answers = new Map<string, Projection>();
  const name = ({ namespace, name }: Dataset) => `${namespace}/${name}`;
  for (const row of rows) {
    for (const table of tablesOf(row)) {
      const questions = [`run ${name(table)}`, ...row.inputs.map((from) => `${name(from)} > ${name(table)}`)];
      if (row.status === 'SUCCEEDED') questions.push(`success ${name(table)}`);
      for (const question of questions) {
        const known = answers.get(question);
        if (known === undefined || isNewer(row, known)) answers.set(question, row);
      }
    }
  }
  return answers;
}

function isNewer(a: Projection, b: Projection): boolean {
  if (a.updated_at !== b.updated_at) return a.updated_at > b.updated_at;
  const [createdA, createdB] = [a, b].map((row) => row.first_created_at ?? row.created_at) as [
    number,
    number,
  ];
  return createdA === createdB ? a.run_id > b.run_id : createdA > createdB;
}
