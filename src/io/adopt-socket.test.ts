import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "../base/index.ts";
import { adoptSocket, type Slab, SlabReceiver } from "./index.ts";

const options = { slabBytes: 1 << 20, slabCount: 3, itemBytesMax: 128 << 10 };

/** Sends `total` bytes of a known sequence through a unix socket into a receiver that consumes items of random length. */
async function transfer(mode: "adopted" | "chunks", seed: number): Promise<void> {
  const prng = new Prng(seed);
  const directory = await mkdtemp(join(tmpdir(), "godwit-adopt-"));
  const path = join(directory, "s");
  const total = 24 << 20;
  const server = createServer({ pauseOnConnect: true });
  server.listen(path);
  await once(server, "listening");
  const sender = connect(path);
  const accepted = (await once(server, "connection"))[0] as Socket;
  let at = 0;
  let item = prng.integer(1, options.itemBytesMax);
  const held: Slab[] = [];
  const done = Promise.withResolvers<void>();
  const receiver: SlabReceiver = new SlabReceiver(options, (slab, from, to) => {
    let next = from;
    while (to - next >= item || (at + (to - next) === total && to > next)) {
      const count = Math.min(item, to - next);
      for (let i = next; i < next + count; i += 997) {
        assert.equal(
          slab.bytes[i],
          (at + (i - next)) % 251,
          `seed ${seed}: byte ${at + (i - next)}`,
        );
      }
      next += count;
      at += count;
      item = prng.integer(1, options.itemBytesMax);
      if (prng.chance(0.05)) {
        receiver.hold(slab);
        held.push(slab);
        setTimeout(() => receiver.release(held.shift() as Slab), prng.integer(0, 4));
      }
      if (prng.chance(0.02)) {
        receiver.holdBack();
        setTimeout(() => receiver.goOn(), prng.integer(0, 3));
        break;
      }
    }
    if (at === total) done.resolve();
    return next;
  });
  let socket = accepted;
  if (mode === "adopted") socket = adoptSocket(accepted, receiver);
  else {
    receiver.attachChunks(accepted);
    accepted.resume();
  }
  let sent = 0;
  while (sent < total) {
    const chunk = Buffer.allocUnsafe(Math.min(total - sent, prng.integer(1, 400_000)));
    for (let i = 0; i < chunk.length; i++) chunk[i] = (sent + i) % 251;
    sent += chunk.length;
    if (!sender.write(chunk)) await once(sender, "drain");
  }
  await done.promise;
  assert.equal(at, total);
  socket.destroy();
  sender.destroy();
  server.close();
  await rm(directory, { recursive: true });
}

for (const mode of ["adopted", "chunks"] as const) {
  test(`every byte arrives once and in order, with holders and holds at random [${mode}]`, {
    timeout: 60_000,
  }, async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) await transfer(mode, seed);
  });
}

test("that no slab is free is told, and that one is again", async () => {
  const directory = await mkdtemp(join(tmpdir(), "godwit-adopt-"));
  const server = createServer({ pauseOnConnect: true });
  server.listen(join(directory, "s"));
  await once(server, "listening");
  const sender = connect(join(directory, "s"));
  const accepted = (await once(server, "connection"))[0] as Socket;
  const held = new Set<Slab>();
  const told: boolean[] = [];
  let wake = (): void => {};
  const receiver: SlabReceiver = new SlabReceiver(
    options,
    (slab, _from, to) => {
      if (!held.has(slab) && told.length === 0) receiver.hold(slab);
      if (told.length === 0) held.add(slab);
      return to;
    },
    (starving) => {
      told.push(starving);
      wake();
    },
  );
  const socket = adoptSocket(accepted, receiver);
  const starves = new Promise<void>((resolve) => {
    wake = resolve;
  });
  sender.write(Buffer.alloc(4 << 20));
  await starves;
  assert.deepEqual(told, [true]);
  assert.equal(held.size, options.slabCount);
  for (const slab of held) receiver.release(slab);
  assert.deepEqual(told, [true, false]);
  socket.destroy();
  sender.destroy();
  server.close();
  await rm(directory, { recursive: true });
});

test("an adopted socket reads straight into the receiver's slab", async () => {
  const server = createServer({ pauseOnConnect: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert(address !== null && typeof address === "object");
  const sender = connect(address.port, "127.0.0.1");
  const accepted = (await once(server, "connection"))[0] as Socket;
  const arrived = Promise.withResolvers<Buffer>();
  const receiver = new SlabReceiver(options, (slab, from, to) => {
    if (to - from >= 5) arrived.resolve(Buffer.from(slab.bytes.subarray(from, to)));
    return to;
  });
  const socket = adoptSocket(accepted, receiver);
  assert.notEqual(
    socket,
    accepted,
    "Node's internals changed: accepted sockets are no longer adopted",
  );
  sender.write("hello");
  assert.equal((await arrived.promise).toString(), "hello");
  socket.destroy();
  sender.destroy();
  server.close();
});
