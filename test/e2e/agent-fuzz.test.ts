/**
 * Requests as a host would never send them, to the real agent: it must stay alive, and what it holds must run in the end. Most
 * useful with a build of the agent that has sanitizers: see guest/agent/README.md.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AgentType } from "../../src/assist/agent/format.ts";
import { encodeFrame, encodeHello, encodeProcess } from "../../src/assist/agent/encode.ts";
import { Prng } from "../../src/base/index.ts";
import { type GoldenFrame, goldenFrames } from "../golden/agent/load.ts";
import { Agent, pageBytes, Prey, RawPort, skipAgent, until, wait } from "./agent-harness.ts";

const seed = Number(process.env["GODWIT_SEED"] ?? Date.now() % 2 ** 32);
const seconds = Number(process.env["SECONDS"] ?? 4);
/** They would disturb the machine. */
const leftOut: readonly number[] = [AgentType.dropCaches, AgentType.freeMemory];
const requests = goldenFrames.filter(({ type }) => type < 32 && !leftOut.includes(type));
const startsWithProcess: readonly number[] = [3, 4, 5, 6, 7, 8, 10];

/** A body that gets past the first checks, mostly, and then one to four damaged bytes in some. */
function mutate(prng: Prng, golden: GoldenFrame, prey: Prey): Buffer {
  const body = Buffer.from(golden.body);
  const { type } = golden;
  if (startsWithProcess.includes(type) && prng.chance(0.9)) encodeProcess(prey).copy(body);
  const address = (): bigint => BigInt(prey.region + prng.integer(-5000, 256 * pageBytes));
  if ((type === AgentType.read && body.length < 200) || type === 5 || type === AgentType.scrub) {
    for (let at = type === AgentType.frames ? 32 : 24; at < body.length; at += 16) {
      body.writeBigUInt64LE(address(), at);
      body.writeBigUInt64LE(BigInt(prng.integer(0, 200_000)), at + 8);
    }
  }
  if (type === AgentType.write) body.writeBigUInt64LE(address(), 16);
  if (type === AgentType.hold) {
    body.writeBigUInt64LE(prng.chance(0.8) ? 0n : BigInt(prey.activeAddress), 16);
    body.writeBigUInt64LE(0n, 24);
    body.writeUInt32LE(prng.integer(1, 200), 36);
    body.writeUInt32LE(prng.integer(1, 50), 40);
  }
  for (let i = prng.chance(0.4) ? prng.integer(1, 4) : 0; i > 0 && body.length > 0; i--) {
    body[prng.integer(0, body.length - 1)] = prng.pick([0, 1, 255, prng.integer(0, 255)]);
  }
  return prng.chance(0.05) ? body.subarray(0, prng.integer(0, body.length)) : body;
}

test(`the agent survives hostile hosts for ${seconds} s (seed ${seed})`, {
  skip: skipAgent,
}, async () => {
  const prng = new Prng(seed);
  await using preys = new AsyncDisposableStack();
  const newPrey = async (): Promise<Prey> => {
    const prey = preys.use(await Prey.start(256));
    await prey.tell(`fill 0 ${200 * pageBytes} 1`);
    return prey;
  };
  let prey = await newPrey();
  await using agent = await Agent.start();
  let answerCount = 0;
  const endMs = performance.now() + seconds * 1000;
  while (performance.now() < endMs) {
    // A damaged address may lie in the prey's own stack or libraries: writing there ends it, and rightly so.
    if (!prey.isAlive) prey = await newPrey();
    using port = new RawPort(agent.portPath);
    port.send(encodeFrame(AgentType.hello, 0, 1, encodeHello(1n)));
    for (let id = 2; id < 300; id++) {
      const golden = prng.pick(requests);
      port.send(encodeFrame(golden.type, 0, id, mutate(prng, golden, prey)));
      if (prng.chance(0.03)) await wait(prng.integer(0, 20));
    }
    await wait(20);
    answerCount += port.frames.length;
  }
  assert.ok(answerCount > 100, `${answerCount} answers`);
  const client = await agent.connect();
  const holds = Number(/^holds (\d+)$/m.exec(await client.status())?.[1]);
  assert.ok(holds > 0, "nothing was ever held");
  assert.doesNotMatch(agent.log, /Sanitizer|runtime error/);
  // Its own memory may have been written to: it may have ended or lost its way, but nobody keeps it stopped.
  await until("the prey is let go", () => !prey.isAlive || !prey.isStopped);
  const last = await newPrey();
  await last.untilRuns();
});
