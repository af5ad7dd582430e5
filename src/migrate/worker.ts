/**
 * The process that carries one side of one migration. Started by the daemon with an IPC channel (see job.ts); ends when its
 * side has ended, or, at once after giving up, when the channel closes.
 */
import type { Socket } from "node:net";
import { fromErrorRecord, GodwitError } from "../base/index.ts";
import { systemClock } from "../io/index.ts";
import { DestinationSession } from "./destination/session.ts";
import type { FromWorker, PreparedVm, ReceiveJob, SendJob, ToWorker } from "./job.ts";
import { SourceSession } from "./source/session.ts";
import { warmUp } from "./warm-up.ts";

interface Session {
  cancel(): void;
}

/** Whoever starts one for a migration that is due tells it so by then. */
const warmUpAfterMs = 100;
const warming = new AbortController();

let session: Session | undefined;
let vmAnswer: PromiseWithResolvers<PreparedVm> | undefined;
let resolveAnswer: PromiseWithResolvers<string> | undefined;

function tell(message: FromWorker): void {
  // The daemon may be gone: what was begun is still brought to its end.
  if (process.connected) process.send?.(message, () => {});
}

async function send(job: SendJob): Promise<void> {
  const source = new SourceSession(
    job,
    {
      progress: (statistics) => tell({ type: "progress", progress: statistics.progress() }),
      say: (text) => tell({ type: "say", text }),
    },
    systemClock,
  );
  session = source;
  tell({ type: "finished", outcome: await source.run() });
}

async function receive(job: ReceiveJob, accepted: Socket): Promise<void> {
  const destination = new DestinationSession(
    job,
    {
      prepareVm: (offer) => {
        vmAnswer = Promise.withResolvers();
        const { migrationId, vmName, definition, run, source } = offer;
        tell({
          type: "prepare-vm",
          migrationId,
          vmName,
          run,
          sourceHost: source.host,
          ...(definition === undefined ? {} : { definition }),
        });
        return vmAnswer.promise;
      },
      resolve: (migrationId, outcome) => {
        resolveAnswer = Promise.withResolvers();
        tell({ type: "resolve", migrationId, outcome });
        return resolveAnswer.promise;
      },
      progress: (progress) => tell({ type: "progress", progress }),
      say: (text) => tell({ type: "say", text }),
    },
    systemClock,
  );
  session = destination;
  const outcome = await destination.run(accepted);
  if (outcome !== undefined) tell({ type: "finished", outcome });
}

async function begin(
  message: Extract<ToWorker, { type: "start" }>,
  handle: unknown,
): Promise<void> {
  warming.abort();
  if (message.job.kind === "send") await send(message.job);
  else await receive(message.job, handle as Socket);
  // Lets the last message leave, then nothing keeps this process.
  if (process.connected) process.disconnect();
}

process.on("message", (message: ToWorker, handle: unknown) => {
  switch (message.type) {
    case "start":
      void begin(message, handle);
      break;
    case "cancel":
      session?.cancel();
      break;
    case "vm-prepared":
      vmAnswer?.resolve(message.vm);
      break;
    case "vm-refused":
      vmAnswer?.reject(fromErrorRecord(message.error));
      break;
    case "resolved":
      resolveAnswer?.resolve(message.state);
      break;
  }
});

process.on("disconnect", () => {
  warming.abort();
  vmAnswer?.reject(new GodwitError("PEER_LOST", "the daemon ended"));
  resolveAnswer?.reject(new GodwitError("PEER_LOST", "the daemon ended"));
  session?.cancel();
});

// A worker that nobody waits for.
const stopWaiting = systemClock.after(
  warmUpAfterMs,
  () => void warmUp(systemClock, warming.signal),
);
warming.signal.addEventListener("abort", stopWaiting);

// Signals of a terminal are for the daemon, which tells its workers what to do.
process.on("SIGINT", () => {});
