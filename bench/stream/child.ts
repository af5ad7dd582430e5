/**
 * Takes one stream on a socket and prints a CaseResult: node bench/stream/child.ts CASE LISTEN-PATH [FORWARD-PATH]
 * The clock runs from the first byte to the end of the connection (and of all writes, when it forwards).
 */
import { connect, createServer, type Socket } from "node:net";
import type { GodwitError } from "../../src/base/index.ts";
import { createEncoder } from "../../src/codec/index.ts";
import {
  adoptSocket,
  defaultSlabOptions,
  type Slab,
  SlabReceiver,
  systemClock,
} from "../../src/io/index.ts";
import { FrameChannel } from "../../src/migrate/channel.ts";
import { SourcePump } from "../../src/migrate/source/pump.ts";
import {
  pageBytes,
  pageOfWord,
  pageRecordBytes,
  StreamReader,
  type StreamSink,
  zeroRecordBytes,
} from "../../src/qemu/stream/index.ts";
import type { CaseResult, NodeCase } from "./cases.ts";

const [name, path = "", forwardPath = ""] = process.argv.slice(2);
const nothing = (): void => {};
const nullSink: StreamSink = {
  head: nothing,
  pages: nothing,
  command: nothing,
  ramEnd: nothing,
  tail: nothing,
};

/** Started at the first byte. */
class Meter {
  #bytes = 0;
  #wall = 0;
  #cpu: NodeJS.CpuUsage | undefined;

  count(bytes: number): void {
    if (this.#cpu === undefined) {
      this.#wall = performance.now();
      this.#cpu = process.cpuUsage();
    }
    this.#bytes += bytes;
  }

  print(): void {
    const cpu = process.cpuUsage(this.#cpu);
    const result: CaseResult = {
      bytes: this.#bytes,
      wallMs: performance.now() - this.#wall,
      cpuMs: (cpu.user + cpu.system) / 1000,
    };
    console.log(JSON.stringify(result));
  }
}

/** Pages of the one block that bench/c/stream.c makes, in guest order. */
function storeSink(): StreamSink {
  let store: Uint8Array = new Uint8Array(0);
  return {
    ...nullSink,
    head: (head) => {
      store = new Uint8Array(head.blocks[0]?.lengthBytes ?? 0).fill(1);
    },
    pages: (_, bytes, from, to) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let at = from; at < to; ) {
        const address = pageOfWord(view, at) * pageBytes;
        if ((view.getUint8(at + 7) & 0x08) !== 0) {
          store.set(bytes.subarray(at + 8, at + pageRecordBytes), address);
          at += pageRecordBytes;
        } else {
          store.fill(0, address, address + pageBytes);
          at += zeroRecordBytes;
        }
      }
    },
  };
}

/** Runs go out as they lie in the slab, which is held until they are written. */
function forwardSink(out: Socket, current: () => { slab: Slab; receiver: SlabReceiver }) {
  return {
    ...nullSink,
    pages: (_: number, bytes: Uint8Array, from: number, to: number) => {
      const { slab, receiver } = current();
      receiver.hold(slab);
      out.write(bytes.subarray(from, to), () => receiver.release(slab));
    },
  } satisfies StreamSink;
}

function runSlabs(meter: Meter, out: Socket | undefined): void {
  let slab: Slab | undefined;
  const sink =
    out !== undefined
      ? forwardSink(out, () => ({ slab: slab as Slab, receiver }))
      : name === "store"
        ? storeSink()
        : nullSink;
  const reader = new StreamReader(sink);
  const receiver: SlabReceiver = new SlabReceiver(defaultSlabOptions, (current, from, to) => {
    slab = current;
    out?.cork();
    let at = from;
    for (;;) {
      const next = reader.push(current.bytes, at, to);
      if (next === at || next === to) {
        at = next;
        break;
      }
      at = next;
    }
    out?.uncork();
    meter.count(at - from);
    return at;
  });
  const server = createServer({ pauseOnConnect: true }, (accepted) => {
    const socket = adoptSocket(accepted, receiver);
    socket.on("end", () => finish(meter, reader, socket, out, () => server.close()));
  });
  server.listen(path, () => console.log("ready"));
}

/**
 * What a migration runs. Nobody acknowledges, so what the socket has taken counts as acknowledged: the window is open, the
 * socket is the limit.
 */
function runPump(meter: Meter, out: Socket): void {
  const slabs = { slabBytes: 1 << 20, slabCount: 2, itemBytesMax: 256 << 10 };
  const fail = (error: GodwitError): void => {
    throw error;
  };
  const channel = new FrameChannel(systemClock, slabs, { frame: () => {}, lost: () => {} });
  channel.open(out);
  const pump = new SourcePump({
    clock: systemClock,
    channel,
    skip: undefined,
    encoder: createEncoder("none"),
    bandwidthBytesPerSecond: 0,
    readPages: () => {},
    events: { began: () => meter.count(0), failed: fail, ended: () => finished() },
  });
  let acknowledged = 0;
  const timer = setInterval(() => {
    acknowledged = Math.max(acknowledged, pump.sender.sentBytes - out.writableLength);
    pump.acknowledged({ takenBytes: acknowledged, idleMs: 0 }, 4e6);
  }, 1);
  const finished = once(() => {
    clearInterval(timer);
    meter.count(pump.streamBytes);
    server.close();
    out.end(() => meter.print());
  });
  const server = createServer({ pauseOnConnect: true }, (accepted) => pump.open(accepted));
  server.listen(path, () => console.log("ready"));
}

/** The stream's socket tells its end twice, as end and as close. */
function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (!done) action();
    done = true;
  };
}

/** What one would write first: each chunk is joined to the rest, parsed, and written on. */
function runNaive(meter: Meter, out: Socket): void {
  let rest: Uint8Array = new Uint8Array(0);
  const reader = new StreamReader({
    ...nullSink,
    pages: (_, bytes, from, to) => {
      out.write(bytes.subarray(from, to));
    },
  });
  const server = createServer((socket) => {
    socket.on("data", (chunk: Buffer) => {
      meter.count(chunk.length);
      const all = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let at = reader.push(all, 0, all.length);
      if (reader.ramEnded) at = reader.push(all, at, all.length);
      rest = all.subarray(at);
      if (!out.writableNeedDrain) return;
      socket.pause();
      out.once("drain", () => socket.resume());
    });
    socket.on("end", () => finish(meter, reader, socket, out, () => server.close()));
  });
  server.listen(path, () => console.log("ready"));
}

function finish(
  meter: Meter,
  reader: StreamReader,
  socket: Socket,
  out: Socket | undefined,
  close: () => void,
): void {
  reader.assertComplete();
  socket.destroy();
  close();
  if (out === undefined) meter.print();
  else out.end(() => meter.print());
}

const meter = new Meter();
const kind = name as NodeCase;
if (kind === "parse" || kind === "store") runSlabs(meter, undefined);
else {
  const out = connect(forwardPath, () => {
    if (kind === "forward") runSlabs(meter, out);
    else if (kind === "pump") runPump(meter, out);
    else runNaive(meter, out);
  });
}
