import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveConfig } from "./config.ts";
import { definitionFromPeer } from "./definition.ts";

const base = { name: "web", memory: "512M" };

test("a peer's extraArguments are refused unless they were allowed", () => {
  const value = { ...base, extraArguments: ["-incoming", "exec:touch /tmp/x"] };
  assert.throws(() => definitionFromPeer(value, resolveConfig({})), {
    code: "INSECURE",
    message: /--allow-extra-arguments/,
  });
  const allowing = resolveConfig({ allowExtraArguments: true });
  assert.deepEqual(definitionFromPeer(value, allowing).extraArguments, value.extraArguments);
  assert.deepEqual(definitionFromPeer(base, resolveConfig({})).extraArguments, []);
});

test("a peer's choice of a QEMU, or scripts for its networks, are not taken", () => {
  const config = resolveConfig({});
  assert.equal(definitionFromPeer({ ...base, binary: "/tmp/evil" }, config).binary, undefined);
  const tap = { type: "tap", interface: "tap0", script: "/tmp/evil" };
  assert.throws(() => definitionFromPeer({ ...base, networks: [tap] }, config), {
    code: "DEFINITION_INVALID",
  });
});
