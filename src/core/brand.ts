/**
 * Makes `instanceof` hold across copies of the package: two versions in one process, or one loaded twice. A class that
 * somebody derives from a branded one is told by its prototype, as ever. Names are part of the public surface.
 */
export function brand(type: abstract new (...args: never[]) => object, name: string): void {
  const mark = Symbol.for(`runfold.${name}`);
  Object.defineProperty(type.prototype, mark, { value: true });
  Object.defineProperty(type, Symbol.hasInstance, {
    value(this: unknown, one: unknown): boolean {
      if (this !== type) return Function.prototype[Symbol.hasInstance].call(this, one);
      return typeof one === 'object' && one !== null && (one as Record<symbol, unknown>)[mark] === true;
    },
  });
}
