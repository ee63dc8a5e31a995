/** Below this, comparing texts with each other is as quick as anything. */
const FEW = 8;

/**
 * The texts' places in ascending order, by UTF-16 units as `<` compares. Four units at a time (two where some are not
 * Latin-1), behind what all have in common, become the upper bits of a number and the place its lower ones: numbers are
 * sorted natively, in a quarter of the time that texts take.
 */
export function textOrder(texts: readonly string[]): Uint32Array {
  const order = new Uint32Array(texts.length);
  for (let i = 0; i < order.length; i++) order[i] = i;
  sortRange(texts, order, 0);
  return order;
}

/** `order`: texts that are the same up to `depth`. */
function sortRange(texts: readonly string[], order: Uint32Array, depth: number): void {
  if (order.length <= FEW || order.length > WIDE.places) {
    order.sort((a, b) => (texts[a]! < texts[b]! ? -1 : texts[a]! > texts[b]! ? 1 : 0));
    return;
  }
  const from = commonEnd(texts, order, depth);
  const form = isNarrow(texts, order, from) ? NARROW : WIDE;
  const keys = new Float64Array(order.length);
  for (let k = 0; k < keys.length; k++) {
    const text = texts[order[k]!]!;
    let key = 0;
    for (let u = from; u < from + form.units; u++) {
      // The end comes before every unit.
      key = key * form.base + (u < text.length ? text.charCodeAt(u) + 1 : 0);
    }
    keys[k] = key * form.places + k;
  }
  keys.sort();
  const before = order.slice();
  for (let k = 0; k < keys.length; k++) order[k] = before[keys[k]! % form.places]!;
  for (let start = 0; start < keys.length; ) {
    const key = Math.floor(keys[start]! / form.places);
    let end = start + 1;
    while (end < keys.length && Math.floor(keys[end]! / form.places) === key) end++;
    // A key that holds the end of its text is that of equal texts only.
    if (end - start > 1 && key % form.base !== 0) {
      sortRange(texts, order.subarray(start, end), from + form.units);
    }
    start = end;
  }
}

/** 53 bits each: units as 1 + their code, and the place. */
const NARROW = { units: 4, base: 2 ** 8, places: 2 ** 21 };
const WIDE = { units: 2, base: 2 ** 17, places: 2 ** 19 };

function commonEnd(texts: readonly string[], order: Uint32Array, depth: number): number {
  const first = texts[order[0]!]!;
  let common = first.length;
  for (let k = 1; k < order.length && common > depth; k++) {
    const text = texts[order[k]!]!;
    let at = depth;
    while (at < common && at < text.length && text.charCodeAt(at) === first.charCodeAt(at)) at++;
    common = at;
  }
  return common;
}

function isNarrow(texts: readonly string[], order: Uint32Array, from: number): boolean {
  for (const place of order) {
    const text = texts[place]!;
    const end = Math.min(text.length, from + NARROW.units);
    for (let u = from; u < end; u++) if (text.charCodeAt(u) >= NARROW.base - 1) return false;
  }
  return true;
}
