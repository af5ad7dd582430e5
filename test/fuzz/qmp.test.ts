import { test } from "node:test";
import { Prng } from "../../src/base/index.ts";
import { fuzzQmp } from "./qmp.ts";

test("the QMP decoder survives 2,000 mutated conversations (seeds 1 to 2,000)", () => {
  for (let seed = 1; seed <= 2000; seed++) fuzzQmp(new Prng(seed));
});
