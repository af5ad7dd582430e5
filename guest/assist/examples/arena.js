/**
 * The least that a Node program does to assist: results of a slow computation in an arena.
 *
 * A slot that is zero is one that is not computed yet, so memory that has become zero is slow, never wrong. Between `prepare` and
 * the end of the migration `lookup` computes without looking: in one thread there is nobody to wait for.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { GodwitAssist } from "../node/godwit-assist.js";

const slotCount = 4 << 20;
const arena = new BigUint64Array(slotCount);
let open = true;

/**
 * Never 0, and the same for the same number at any time.
 * @param {number} number
 */
function compute(number) {
  return BigInt.asUintN(64, BigInt(number) * 6364136223846793005n + 1442695040888963407n) | 1n;
}

/** @param {number} number */
function lookup(number) {
  const at = number % slotCount;
  if (!open) return compute(at);
  if (arena[at] === 0n) arena[at] = compute(at);
  return arena[at];
}

function goOn() {
  open = true;
  console.log("goes on");
}

const assist = new GodwitAssist({
  name: "arena-node",
  prepare(deadlineMs) {
    console.log(`prepare within ${deadlineMs} ms`);
    open = false;
  },
  resume: goOn,
  abort: goOn,
  trouble: (text) => console.error(`assistance: ${text}`),
});
assist.area(arena);

for (let number = 0; ; number += 7919) {
  if (lookup(number) !== compute(number % slotCount)) throw new Error("WRONG");
  if (number % 101 === 0) await sleep(1);
}
