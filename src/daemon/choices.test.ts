import assert from "node:assert/strict";
import { test } from "node:test";
import { compressChoices } from "../api/index.ts";
import { codecChoices } from "../codec/index.ts";

test("whoever calls can choose every codec that there is", () => {
  assert.deepEqual(compressChoices, codecChoices);
});
