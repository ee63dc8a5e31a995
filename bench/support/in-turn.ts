/** The same order in no two rounds that follow each other: nobody always runs in another's wake. */
export function inTurn<T>(items: readonly T[], round: number): T[] {
  const shift = round % items.length;
  return [...items.slice(shift), ...items.slice(0, shift)];
}
