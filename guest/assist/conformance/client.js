/** The Node library under the conformance test. Commands: head of client.c. */
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { GodwitAssist } from "../node/godwit-assist.js";

const buffers = [];
const areas = [];
let onPrepare = ["ok"];

const say = (...words) => process.stdout.write(`${words.join(" ")}\n`);

const assist = new GodwitAssist({
  name: "conformance",
  begin: () => say("begin"),
  async prepare(deadlineMs) {
    say("prepare", deadlineMs);
    const [word, ...numbers] = onPrepare;
    const [i, offset, length] = numbers.map(Number);
    if (word === "fail") throw new Error("cannot stop");
    if (word === "sleep") await sleep(i);
    if (word === "drop") areas[i].drop(offset, length);
  },
  resume: () => say("resume"),
  abort: () => say("abort"),
  trouble: (text) => say("trouble", text),
});

function obey(line) {
  const [word, ...rest] = line.split(" ");
  const [i, offset, length] = rest.map(Number);
  if (word === "area") {
    buffers[i] = Buffer.alloc(offset, i + 1);
    areas[i] = assist.area(buffers[i]);
    say("area", i, `0x${(areas[i].address ?? 0).toString(16)}`, areas[i].length);
  } else if (word === "drop") {
    areas[i].drop(offset, length);
    say("done");
  } else if (word === "drop-all") {
    assist.dropAll();
    say("done");
  } else if (word === "zeroes") {
    say("zeroes", i, buffers[i].reduce((count, byte) => count + (byte === 0 ? 1 : 0), 0));
  } else if (word === "on-prepare") {
    onPrepare = rest;
    say("done");
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "quit") break;
  obey(line);
}
assist.close();
process.stdin.destroy();
