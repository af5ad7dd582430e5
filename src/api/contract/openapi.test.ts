import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { openApiDocument } from "./index.ts";

const path = new URL("../../../docs/openapi.json", import.meta.url);

/** GODWIT_UPDATE=1 rewrites it. */
test("docs/openapi.json is what the daemon serves", () => {
  const wanted = openApiDocument();
  if (process.env["GODWIT_UPDATE"]) writeFileSync(path, `${JSON.stringify(wanted, null, 2)}\n`);
  assert.deepEqual(JSON.parse(readFileSync(path, "utf8")), JSON.parse(JSON.stringify(wanted)));
});
