/**
 * The entries that were asked for last: at most `max`. In two halves, the older of which goes as a whole when the newer is full: an
 * order by use would cost each request two changes of a map.
 */
export class Recent<V> {
  readonly #halfMax: number;
  readonly #make: () => V;
  readonly #onDropped: (count: number) => void;
  #newer = new Map<string, V>();
  #older = new Map<string, V>();

  constructor({ max, make, onDropped }: { readonly max: number; make(): V; onDropped(count: number): void }) {
    this.#halfMax = Math.max(1, Math.floor(max / 2));
    this.#make = make;
    this.#onDropped = onDropped;
  }

  get(key: string): V {
    const known = this.#newer.get(key);
    if (known !== undefined) return known;
    const entry = this.#older.get(key) ?? this.#make();
    this.#older.delete(key);
    if (this.#newer.size >= this.#halfMax) {
      this.#onDropped(this.#older.size);
      this.#older = this.#newer;
      this.#newer = new Map();
    }
    this.#newer.set(key, entry);
    return entry;
  }

  get size(): number {
    return this.#newer.size + this.#older.size;
  }
}
