/** Who follows what happens. A follower that throws is its own problem. */
export class Followers<T> {
  readonly #followers = new Set<(event: T) => void>();

  /** The returned function ends it. */
  add(follower: (event: T) => void): () => void {
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }

  emit(event: T): void {
    for (const follower of Array.from(this.#followers)) follower(event);
  }
}
