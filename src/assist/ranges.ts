/** A range of a process's virtual addresses; both below 2^53 on every machine there is. */
export interface MemoryRange {
  readonly address: number;
  readonly bytes: number;
}
