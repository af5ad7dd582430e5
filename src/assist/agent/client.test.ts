/** The client against a scripted agent. What a real one does is tested in test/e2e/agent-*.test.ts. */
import assert from "node:assert/strict";
import { type Duplex, duplexPair } from "node:stream";
import { describe, test } from "node:test";
import { type ErrorCode, GodwitError } from "../../base/index.ts";
import { type Clock, systemClock } from "../../io/index.ts";
import { AgentClient } from "./client.ts";
import { AgentDecoder } from "./decode.ts";
import { encodeFrame } from "./encode.ts";
import { type AgentFrame, AgentType, errorType, moreFlag, replyBit } from "./format.ts";

const process = { pid: 7, startTimeTicks: 70 };

/** Time that passes when a test says so. */
class ManualClock implements Clock {
  #nowMs = 0;
  readonly #timers = new Set<{ readonly atMs: number; readonly run: () => void }>();
  nowMs = (): number => this.#nowMs;
  wallMs = (): number => this.#nowMs;
  after(ms: number, run: () => void): () => void {
    const timer = { atMs: this.#nowMs + ms, run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }
  pass(ms: number): void {
    this.#nowMs += ms;
    for (const timer of Array.from(this.#timers)) {
      if (timer.atMs > this.#nowMs) continue;
      this.#timers.delete(timer);
      timer.run();
    }
  }
}

/** What the script does with a request; hello is answered before it is asked. */
type Script = (request: AgentFrame, agent: FakeAgent) => void;

class FakeAgent {
  readonly requests: AgentFrame[] = [];
  readonly #stream: Duplex;

  constructor(stream: Duplex, script: Script, greets = true) {
    this.#stream = stream;
    const decoder = new AgentDecoder();
    stream.on("error", () => {});
    stream.on("data", (bytes: Uint8Array) => {
      for (const request of decoder.push(bytes)) {
        if (request.type === AgentType.hello && greets) this.reply(request, hello(request));
        else {
          this.requests.push(request);
          script(request, this);
        }
      }
    });
  }

  reply({ type, id }: AgentFrame, body: Uint8Array = new Uint8Array(0), flags = 0): void {
    this.send(encodeFrame(type | replyBit, flags, id, body));
  }

  refuse({ id }: AgentFrame, code: number, text: string): void {
    this.send(encodeFrame(errorType, 0, id, Buffer.from([code, 0, 0, 0, ...Buffer.from(text)])));
  }

  send(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  hangUp(): void {
    this.#stream.end();
  }
}

function hello(request: AgentFrame): Buffer {
  const body = Buffer.alloc(56);
  body.writeUInt32LE(1, 0);
  request.body.copy(body, 8, 8, 16);
  body.writeUInt32LE(4096, 16);
  body.writeUInt32LE(30_000, 24);
  return body;
}

async function connect(script: Script, options: { clock?: Clock; timeoutMs?: number } = {}) {
  const [ours, theirs] = duplexPair();
  const agent = new FakeAgent(theirs, script);
  const client = await AgentClient.over(ours, { clock: systemClock, ...options });
  return { client, agent, [Symbol.asyncDispose]: () => client.close() };
}

function failure(code: ErrorCode, text: RegExp, agentCode?: string) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof GodwitError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    if (agentCode !== undefined) assert.equal(error.details["agentCode"], agentCode);
    return true;
  };
}

/** Lets everything that is on its way between the two ends arrive. */
const settle = (): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, 20);
  });

describe("greeting", () => {
  test("what an earlier host has left in the port is thrown away", async () => {
    const [ours, theirs] = duplexPair();
    theirs.write(encodeFrame(0x84, 0, 5, Buffer.alloc(50)).subarray(0, 30));
    theirs.write(Buffer.alloc(9, 0xff));
    theirs.write(encodeFrame(0x90, 0, 6, Buffer.from("held 1")));
    const agent = new FakeAgent(theirs, () => {});
    await using client = await AgentClient.over(ours, { clock: systemClock });
    assert.equal(client.hello.holdMsMax, 30_000);
    assert.equal(agent.requests.length, 0);
  });

  test("a guest without an agent: AGENT_SILENT when the time is up", async () => {
    const clock = new ManualClock();
    const [ours, theirs] = duplexPair();
    theirs.resume();
    const client = AgentClient.over(ours, { clock, timeoutMs: 300 });
    const rejected = assert.rejects(client, failure("AGENT_SILENT", /within 300 ms/));
    clock.pass(300);
    await rejected;
    assert.ok(ours.destroyed);
  });

  test("a socket that nobody listens on: AGENT_UNREACHABLE", async () => {
    const connecting = AgentClient.connect("/nowhere/agent.sock", { clock: systemClock });
    await assert.rejects(connecting, failure("AGENT_UNREACHABLE", /nobody listens at/));
  });

  test("an answer to another greeting is none", async () => {
    const [ours, theirs] = duplexPair();
    const script: Script = (request, agent) => agent.reply(request, Buffer.alloc(56).fill(0));
    assert.ok(new FakeAgent(theirs, script, false));
    const client = AgentClient.over(ours, { clock: systemClock });
    await assert.rejects(client, failure("AGENT_FAILED", /pages of 0 bytes|another greeting/));
  });

  test("a signal ends it: CANCELLED", async () => {
    const [ours, theirs] = duplexPair();
    theirs.resume();
    const abort = new AbortController();
    const client = AgentClient.over(ours, { clock: systemClock, signal: abort.signal });
    abort.abort();
    await assert.rejects(client, failure("CANCELLED", /cancelled/));
  });
});

describe("calls", () => {
  test("answers may come out of order, in several frames, and in pieces", async () => {
    const waiting: AgentFrame[] = [];
    await using world = await connect((request, agent) => {
      waiting.push(request);
      if (waiting.length < 2) return;
      const [first, second] = waiting as [AgentFrame, AgentFrame];
      agent.reply(second, Buffer.from("b"));
      const parts = [
        encodeFrame(first.type | replyBit, moreFlag, first.id, Buffer.from("a1 ")),
        encodeFrame(first.type | replyBit, 0, first.id, Buffer.from("a2")),
      ];
      for (const byte of Buffer.concat(parts)) agent.send(Uint8Array.of(byte));
    });
    const { client } = world;
    assert.deepEqual(await Promise.all([client.maps(process), client.status()]), ["a1 a2", "b"]);
  });

  test("a refusal is AGENT_FAILED with the agent's name for it", async () => {
    await using world = await connect((request, agent) =>
      agent.refuse(request, 2, "gone for good"),
    );
    const refused = failure("AGENT_FAILED", /refused maps: gone for good/, "GONE");
    await assert.rejects(world.client.maps(process), refused);
  });

  test("silence is AGENT_SILENT, and the late answer is dropped", async () => {
    const clock = new ManualClock();
    await using world = await connect(() => {}, { clock });
    const call = world.client.maps(process);
    const rejected = assert.rejects(call, failure("AGENT_SILENT", /maps: .* within 2000 ms/));
    clock.pass(2000);
    await rejected;
    await settle();
    world.agent.reply(world.agent.requests[0] as AgentFrame, Buffer.from("late"));
    await settle();
    const status = world.client.status();
    await settle();
    world.agent.reply(world.agent.requests[1] as AgentFrame, Buffer.from("fine"));
    assert.equal(await status, "fine");
  });

  test("a port that closes ends everything: AGENT_LOST, and `closed`", async () => {
    await using world = await connect((_, agent) => agent.hangUp());
    await assert.rejects(world.client.status(), failure("AGENT_LOST", /port closed/));
    await world.client.closed;
    await assert.rejects(world.client.status(), failure("AGENT_LOST", /port closed/));
  });

  test("an answer of another kind, or without end, is not taken", async () => {
    await using world = await connect((request, agent) => {
      agent.send(encodeFrame(0x81, 0, request.id, Buffer.from("other")));
      const part = Buffer.alloc(60_000);
      for (let i = 0; i < 150; i++) agent.reply(request, part, moreFlag);
    });
    await assert.rejects(world.client.maps(process), failure("AGENT_FAILED", /endless/));
  });

  test("half a frame is given up after half a second", async () => {
    const clock = new ManualClock();
    await using world = await connect(() => {}, { clock });
    const status = world.client.status();
    await settle();
    const [request] = world.agent.requests;
    world.agent.send(encodeFrame(0x84, 0, 99, Buffer.alloc(9000)).subarray(0, 100));
    world.agent.reply(request as AgentFrame, Buffer.from("behind it"));
    await settle();
    clock.pass(499);
    clock.pass(1);
    assert.equal(await status, "behind it");
  });
});

describe("lists that are longer than a request", () => {
  test("reads are split by count and by bytes, and put together again", async () => {
    const answer: Script = ({ body, ...request }, agent) => {
      const count = body.readUInt32LE(16);
      const parts = Array.from({ length: count }, (_, index) => {
        const at = 24 + index * 16;
        return Buffer.alloc(body.readUInt32LE(at + 8), body.readUInt32LE(at) / 4096);
      });
      const bytes = Buffer.concat(parts);
      for (let at = 0; at <= bytes.length; at += 65_512) {
        const last = at + 65_512 > bytes.length;
        agent.reply({ ...request, body }, bytes.subarray(at, at + 65_512), last ? 0 : moreFlag);
      }
    };
    await using world = await connect(answer);
    const many = Array.from({ length: 300 }, (_, index) => ({ address: index * 4096, bytes: 3 }));
    const ranges = [...many, { address: 5 * 4096, bytes: 3 << 20 }, { address: 0, bytes: 0 }];
    const found = await world.client.read(process, ranges);
    assert.deepEqual(
      found.map(({ length }) => length),
      ranges.map(({ bytes }) => bytes),
    );
    assert.deepEqual(found[299], Buffer.alloc(3, 299 & 255));
    assert.ok(world.agent.requests.length >= 5);
  });

  test("frames of many ranges: a part that has not changed is not sent again", async () => {
    let changed = 1n;
    let repeats = 0;
    await using world = await connect((request, agent) => {
      const first = request.body.readUInt32LE(32) === 0;
      const digest = first ? changed : 77n;
      const body = Buffer.alloc(32);
      body.writeBigUInt64LE(digest, 0);
      body.writeUInt32LE(3, 8);
      body.writeUInt32LE(first ? Number(changed) : 9, 24);
      body.writeUInt16LE(3, 30);
      const known = request.body.readBigUInt64LE(16) === digest;
      if (known) repeats++;
      agent.reply(request, known ? body.subarray(0, 24) : body);
    });
    const ranges = Array.from({ length: 400 }, (_, index) => ({
      address: index * 8192,
      bytes: 4096,
    }));
    const before = await world.client.frames(process, ranges);
    assert.deepEqual(before?.firstFrames, Float64Array.of(1, 9));
    assert.equal(await world.client.frames(process, ranges, before?.digest), undefined);
    assert.equal(repeats, 2);
    changed = 2n;
    const after = await world.client.frames(process, ranges, before?.digest);
    assert.deepEqual(after?.firstFrames, Float64Array.of(2, 9));
    assert.equal(after?.presentPages, 6);
    assert.notEqual(after?.digest, before?.digest);
    assert.equal(repeats, 3);
  });

  test("writes and scrubs are split too", async () => {
    await using world = await connect((request, agent) => {
      const body = Buffer.alloc(request.type === AgentType.scrub ? 32 : 0);
      if (body.length > 0) body.writeUInt32LE(request.body.readUInt32LE(20), 0);
      agent.reply(request, body);
    });
    await world.client.write(process, 1000, new Uint8Array(9000));
    assert.deepEqual(
      world.agent.requests.map(({ body }) => [body.readUInt32LE(16), body.readUInt32LE(24)]),
      [
        [1000, 4040],
        [5040, 4040],
        [9080, 920],
      ],
    );
    const ranges = Array.from({ length: 600 }, (_, index) => ({ address: index * 8192, bytes: 8 }));
    assert.equal((await world.client.scrub(process, ranges)).zeroedPages, 600);
  });
});

describe("holding", () => {
  const options = { timeoutMs: 1000, holdMs: 500 };
  const held = Buffer.alloc(32);

  test("a signal cancels it; if it was held all the same it is thawed", async () => {
    const abort = new AbortController();
    await using world = await connect(() => {});
    const hold = world.client.hold(process, options, abort.signal);
    await settle();
    abort.abort();
    await assert.rejects(hold, failure("CANCELLED", /cancelled/));
    await settle();
    const [request, cancel] = world.agent.requests as [AgentFrame, AgentFrame];
    assert.equal(cancel.type, AgentType.cancel);
    assert.equal(cancel.body.readUInt32LE(0), request.id);
    world.agent.reply(request, held);
    await settle();
    assert.equal(world.agent.requests[2]?.type, AgentType.thaw);
    assert.deepEqual(world.agent.requests[2]?.body, request.body.subarray(0, 16));
  });

  test("an answer that comes after the deadline is thawed", async () => {
    const clock = new ManualClock();
    await using world = await connect(() => {}, { clock });
    const hold = world.client.hold(process, options);
    const rejected = assert.rejects(hold, failure("AGENT_SILENT", /within 3000 ms/));
    clock.pass(3000);
    await rejected;
    await settle();
    world.agent.reply(world.agent.requests[0] as AgentFrame, held);
    await settle();
    assert.deepEqual(
      world.agent.requests.map(({ type }) => type),
      [AgentType.hold, AgentType.cancel, AgentType.thaw],
    );
  });

  test("a cancelled hold whose refusal comes is over", async () => {
    const abort = new AbortController();
    await using world = await connect(() => {});
    const hold = world.client.hold(process, options, abort.signal);
    await settle();
    abort.abort();
    await assert.rejects(hold, failure("CANCELLED", /cancelled/));
    await settle();
    world.agent.refuse(world.agent.requests[0] as AgentFrame, 6, "cancelled");
    await settle();
    assert.equal(world.agent.requests.length, 2);
  });
});
