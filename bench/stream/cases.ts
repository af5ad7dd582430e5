/** The ways of taking a stream that are compared. Each runs alone in a child process: child.ts. */
export const nodeCases = ["parse", "store", "forward", "pump", "naive-pipe"] as const;
export type NodeCase = (typeof nodeCases)[number];

export const caseSummaries: Readonly<Record<NodeCase | "c-memcpy", string>> = {
  parse: "read into slabs and parse",
  store: "parse, and copy each page into a page store",
  forward: "parse, and hand the runs on to a second socket from the slabs",
  pump: "the migration's own source: forward as frames with checksums",
  "naive-pipe": "'data' events of 64 KiB, parse a copy, socket.write",
  "c-memcpy": "C: read 1 MiB, parse, memcpy into a page store",
};

/** What one run of a case says on its standard output. */
export interface CaseResult {
  readonly bytes: number;
  readonly wallMs: number;
  readonly cpuMs: number;
}
