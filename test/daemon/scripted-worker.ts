/**
 * A migration worker without a migration: speaks the IPC contract of src/migrate/job.ts on both sides and one line of JSON each
 * way over the connection, moves no memory, and does what the VM's name says.
 *
 *   ok-…      done          fail-…   the destination refuses half-way      slow-…  goes on until it is cancelled
 *   crash-…   the source's worker dies       silent-…  the destination is left uncertain
 *
 * Where the VM's monitor speaks QMP, a destination that succeeds runs it (`cont`) by the daemon's own means, not here.
 */
import { connect, type Socket } from "node:net";
import type {
  FromWorker,
  MigrationOutcome,
  MigrationProgress,
  MigrationReport,
  SendJob,
  ToWorker,
} from "../../src/migrate/index.ts";

const memoryBytes = 64 * 2 ** 20;
let cancelled = false;

function tell(message: FromWorker): void {
  process.send?.(message);
}

function progress(role: "source" | "destination", round: number): MigrationProgress {
  return {
    role,
    phase: role === "source" ? "rounds" : "receiving",
    elapsedMs: round * 100,
    round,
    memoryBytes,
    pageCount: round * 1000,
    zeroCount: 10,
    droppedCount: 0,
    staleCount: 0,
    streamBytes: round * 4_000_000,
    wireBytes: round * 4_000_000,
    bytesPerSecond: 40_000_000,
    dirtyBytes: memoryBytes / round,
    remainingBytes: memoryBytes / round / 2,
    dirtyBytesPerSecond: round === 1 ? undefined : 5_000_000,
    expectedDowntimeMs: 400 / round,
    etaMs: 1000 / round,
    stalled: false,
  };
}

const report: MigrationReport = {
  totalMs: 1234,
  downtimeMs: 56,
  rounds: 3,
  memoryBytes,
  streamBytes: 12_000_000,
  wireBytes: 12_000_000,
  pageCount: 3000,
  zeroCount: 10,
  droppedCount: 0,
  staleFetchedCount: 0,
  verified: undefined,
  verifyMs: undefined,
};

function finish(
  base: Pick<MigrationOutcome, "role" | "migrationId" | "vmName">,
  result: MigrationOutcome["result"],
  text: string,
): void {
  tell({ type: "finished", outcome: { ...base, result, text, report } });
  process.disconnect?.();
}

/** The next line of JSON from the other side; undefined when the connection ends. */
function lines(socket: Socket): () => Promise<Record<string, unknown> | undefined> {
  const ready: (Record<string, unknown> | undefined)[] = [];
  let wake: () => void = () => {};
  let rest = "";
  socket.on("data", (bytes: Buffer) => {
    const parts = (rest + bytes.toString()).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) ready.push(JSON.parse(part) as Record<string, unknown>);
    wake();
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    ready.push(undefined);
    wake();
  });
  return async () => {
    while (ready.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    return ready.length === 1 && ready[0] === undefined ? undefined : ready.shift();
  };
}

const write = (socket: Socket, value: object): void =>
  void socket.write(`${JSON.stringify(value)}\n`);

async function send(job: SendJob): Promise<void> {
  const base = { role: "source" as const, migrationId: job.migrationId, vmName: job.vmName };
  const socket = connect(job.port, job.host);
  const next = lines(socket);
  const { migrationId, vmName, definition } = job;
  write(socket, { type: "offer", migrationId, vmName, definition });
  const answer = await next();
  if (answer?.["type"] !== "ready") {
    return finish(base, "failed", `refused: ${JSON.stringify(answer?.["message"])}`);
  }
  for (let round = 1; round <= 3 || vmName.startsWith("slow"); round++) {
    tell({ type: "progress", progress: progress("source", round) });
    tell({ type: "say", text: `round ${round} began` });
    await new Promise((resolve) => setTimeout(resolve, 60));
    if (vmName.startsWith("crash")) process.exit(3);
    if (cancelled) {
      write(socket, { type: "abort" });
      return finish(base, "cancelled", "cancelled by the user");
    }
  }
  if (vmName.startsWith("silent")) {
    socket.destroy();
    return finish(base, "unconfirmed", "the destination did not answer");
  }
  write(socket, { type: "handed-over" });
  const end = await next();
  socket.destroy();
  if (end?.["type"] === "running") finish(base, "done", "all went well");
  else finish(base, "failed", "the destination failed");
}

async function receive(socket: Socket, prepared: () => Promise<ToWorker>): Promise<void> {
  const next = lines(socket);
  socket.resume();
  const offer = await next();
  if (offer === undefined) return process.disconnect?.();
  const migrationId = String(offer["migrationId"]);
  const vmName = String(offer["vmName"]);
  if (offer["type"] === "resolve") {
    const outcome = offer["outcome"] === "aborted" ? "aborted" : "handed-over";
    tell({ type: "resolve", migrationId, outcome });
    write(socket, await prepared());
    socket.end();
    return process.disconnect?.();
  }
  const definition = offer["definition"] as Record<string, unknown> | undefined;
  const wanted = { migrationId, vmName, sourceHost: "source.test", run: true };
  tell({ type: "prepare-vm", ...wanted, ...(definition === undefined ? {} : { definition }) });
  const answer = await prepared();
  const base = { role: "destination" as const, migrationId, vmName };
  if (answer.type !== "vm-prepared") {
    const message = answer.type === "vm-refused" ? answer.error.message : "?";
    write(socket, { type: "refused", message });
    socket.end();
    return finish(base, "failed", `refused: ${message}`);
  }
  write(socket, { type: "ready" });
  tell({ type: "progress", progress: progress("destination", 1) });
  const decision = await next();
  if (decision?.["type"] === "handed-over" && !vmName.startsWith("fail")) {
    write(socket, { type: "running" });
    socket.end();
    return finish(base, "done", "the VM runs here");
  }
  socket.destroy();
  if (vmName.startsWith("silent")) finish(base, "uncertain", "the source fell silent");
  else finish(base, "failed", "the source gave up");
}

let onAnswer: (message: ToWorker) => void = () => {};
const answered = new Promise<ToWorker>((resolve) => {
  onAnswer = resolve;
});

process.on("message", (message: ToWorker, handle: Socket | undefined) => {
  if (message.type === "cancel") cancelled = true;
  else if (message.type !== "start") onAnswer(message);
  else if (message.job.kind === "send") void send(message.job);
  else if (handle !== undefined) void receive(handle, () => answered);
});
process.on("disconnect", () => process.exit(0));
