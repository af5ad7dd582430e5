/** Server-sent events. A follower that does not read loses progress reports first, and then its connection. */
import type { FastifyReply } from "fastify";
import { encodeEvent, heartbeat, type MigrationEvent } from "../api/index.ts";
import { type Clock, sleep } from "../io/index.ts";
import { readLog } from "./console.ts";
import type { Service } from "./service.ts";
import { noSuchVm } from "./vms.ts";

const heartbeatMs = 15_000;
const consolePollMs = 250;
const partBytesMax = 4 * 1024 * 1024;
const progressBytesMax = 64 * 1024;
const bufferedBytesMax = 8 * 1024 * 1024;

/** One open response. */
export class EventStream {
  readonly closed: Promise<void>;
  readonly #reply: FastifyReply;
  #open = true;

  constructor(reply: FastifyReply, clock: Clock) {
    this.#reply = reply;
    reply.hijack();
    reply.raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    reply.raw.flushHeaders();
    let stopBeating = (): void => {};
    const beat = (): void => {
      this.#write(heartbeat);
      stopBeating = clock.after(heartbeatMs, beat);
    };
    beat();
    this.closed = new Promise((resolve) => {
      reply.raw.once("close", () => {
        this.#open = false;
        stopBeating();
        resolve();
      });
    });
    reply.raw.on("error", () => {});
  }

  get open(): boolean {
    return this.#open;
  }

  send(event: { readonly type: string }): void {
    const buffered = this.#reply.raw.writableLength;
    if (event.type === "progress" && buffered > progressBytesMax) return;
    if (buffered > bufferedBytesMax) this.#reply.raw.destroy();
    else this.#write(encodeEvent(event));
  }

  end(): void {
    if (this.#open) this.#reply.raw.end();
  }

  #write(text: string): void {
    if (this.#open) this.#reply.raw.write(text);
  }
}

/** One migration until it ends, or all of them for ever. */
export async function followMigrations(
  { context }: Service,
  reply: FastifyReply,
  id: string | undefined,
): Promise<void> {
  const { migrations } = context;
  const stream = new EventStream(reply, context.clock);
  const isMine = (event: MigrationEvent): boolean => id === undefined || idOf(event) === id;
  const unfollow = migrations.followers.add((event) => {
    if (!isMine(event)) return;
    stream.send(event);
    if (id !== undefined && event.type === "finished") stream.end();
  });
  stream.send({ type: "following" });
  // Nothing can happen between subscribing and this: no await.
  const now = id === undefined ? migrations.running() : [migrations.find(id)];
  for (const migration of now) {
    const ended = migration.state !== "running";
    stream.send({ type: ended ? "finished" : "migration", migration } as MigrationEvent);
    if (ended) stream.end();
  }
  await stream.closed;
  unfollow();
}

function idOf(event: MigrationEvent): string | undefined {
  if ("migration" in event) return event.migration.id;
  return "id" in event ? event.id : undefined;
}

/** The console's log from `bytes` before its end, as it grows, until the VM is gone. */
export async function followConsole(
  service: Service,
  reply: FastifyReply,
  name: string,
  bytes: number,
): Promise<void> {
  const { vms, clock } = service.context;
  const record = vms.recordOf(name);
  if (record === undefined) throw noSuchVm(name);
  const stream = new EventStream(reply, clock);
  const decoder = new TextDecoder();
  let from = 0;
  let wanted = bytes;
  while (stream.open) {
    // A VM of the same name that came later is another one.
    const there = vms.recordOf(name)?.pid === record.pid;
    const { raw, end } = await readLog(record.consoleLogPath, wanted, from);
    from = end;
    wanted = partBytesMax;
    const text = decoder.decode(raw, { stream: true });
    if (text !== "") stream.send({ type: "text", text } as { type: string });
    else if (!there) stream.end();
    await Promise.race([stream.closed, sleep(clock, consolePollMs)]);
  }
}
