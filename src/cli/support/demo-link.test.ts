import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { test } from "node:test";
import { DemoLink } from "./demo-link.ts";

test("a link carries what comes, in order, no faster than its rate, and closes with either end", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const received: Buffer[] = [];
  const ended = Promise.withResolvers<void>();
  server.on("connection", (socket) => {
    socket.on("data", (chunk) => received.push(chunk)).on("end", ended.resolve);
  });
  const bytes = Buffer.alloc(2_000_000, "godwit");
  {
    using link = await DemoLink.open((server.address() as AddressInfo).port, 4e6);
    const startMs = performance.now();
    connect(link.port, "127.0.0.1").end(bytes);
    await ended.promise;
    const tookMs = performance.now() - startMs;
    assert(tookMs > 450, `${tookMs} ms`);
    assert.deepEqual(Buffer.concat(received), bytes);
  }
  server.close();
});
