/** Reaches a destination again, over a new connection, to say how a migration ended whose connection was lost. */
import { GodwitError } from "../../base/index.ts";
import { type Clock, sleep } from "../../io/index.ts";
import { FrameChannel } from "../channel.ts";
import type { TransportOptions } from "../job.ts";
import { connectChannel } from "../transport.ts";
import { FrameType, parseDestinationMessage } from "../wire/index.ts";

const slabs = { slabBytes: 2 << 20, slabCount: 2, itemBytesMax: 600 << 10 };
const pauseMs = 1_000;
const attemptMs = 20_000;

export interface ResolvePeer {
  readonly host: string;
  readonly port: number;
  readonly transport: TransportOptions;
}

/**
 * Tries until the destination answers; the caller's deadline ends it by not waiting longer (`attempts` bounds it in any
 * case). Answers what the destination made of it: "running", "discarded", "not here", "still arriving" or a failure in words.
 */
export async function resolveAtDestination(
  clock: Clock,
  peer: ResolvePeer,
  outcome: "handed-over" | "aborted",
  migrationId: string,
  attempts = 60,
): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    try {
      const state = await resolveOnce(clock, peer, { type: "resolve", migrationId, outcome });
      // Its own worker there has not noticed yet that the connection is gone.
      if (state !== "still arriving") return state;
      if (attempt >= attempts) return state;
      await sleep(clock, pauseMs);
    } catch (error) {
      if (attempt >= attempts) throw error;
      await sleep(clock, pauseMs);
    }
  }
}

async function resolveOnce(clock: Clock, peer: ResolvePeer, message: object): Promise<string> {
  const answer = Promise.withResolvers<string>();
  const channel = new FrameChannel(clock, slabs, {
    frame: (header, slab, from, to) => {
      if (header.type !== FrameType.control) return;
      const reply = parseDestinationMessage((slab.bytes as Buffer).subarray(from, to));
      if (reply.type === "resolved") answer.resolve(reply.state);
      else if (reply.type === "failed") {
        answer.reject(new GodwitError("PEER_FAILED", reply.error.message));
      }
    },
    lost: (error) => answer.reject(error),
  });
  const stop = clock.after(attemptMs, () => {
    answer.reject(new GodwitError("TIMEOUT", "the destination did not answer"));
  });
  try {
    await connectChannel(clock, channel, peer, peer.transport);
    channel.sendControl(message);
    return await answer.promise;
  } finally {
    stop();
    channel.destroy();
  }
}
