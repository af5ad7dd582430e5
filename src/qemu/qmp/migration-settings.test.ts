/** What is changed in QEMU for a migration, and that it is put back: against a model of QEMU's settings. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { QmpClient } from "./client.ts";
import {
  applyMigrationSettings,
  foreignCapabilities,
  isMigrationOver,
  iteratingSettings,
  readMigrationSettings,
} from "./migration-settings.ts";
import type { MigrationCapability } from "./types.ts";

type Settings = Record<string, unknown>;

/** As QEMU: an unknown name spoils the whole command. */
class Monitor {
  readonly capabilities: Map<string, boolean>;
  readonly parameters: Settings;
  readonly said: string[] = [];

  constructor(capabilities: Readonly<Record<string, boolean>>, parameters: Settings) {
    this.capabilities = new Map(Object.entries(capabilities));
    this.parameters = { ...parameters };
  }

  get client(): QmpClient {
    const run = async (command: string, args: unknown): Promise<unknown> =>
      this.#run(command, args);
    return { execute: run, executeAny: run } as unknown as QmpClient;
  }

  get state(): unknown {
    return { capabilities: [...this.capabilities], parameters: { ...this.parameters } };
  }

  #run(command: string, args: unknown): unknown {
    this.said.push(command);
    if (command === "query-migrate-parameters") return { ...this.parameters };
    if (command === "query-migrate-capabilities") {
      return [...this.capabilities].map(([capability, state]) => ({ capability, state }));
    }
    if (command === "migrate-set-parameters") {
      for (const [name, value] of Object.entries(args as Settings)) {
        assert.ok(name in this.parameters, `parameter ${name} does not exist`);
        this.parameters[name] = value;
      }
      return {};
    }
    assert.equal(command, "migrate-set-capabilities");
    const { capabilities } = args as { capabilities: { capability: string; state: boolean }[] };
    for (const { capability, state } of capabilities) {
      assert.ok(this.capabilities.has(capability), `capability ${capability} does not exist`);
      this.capabilities.set(capability, state);
    }
    return {};
  }
}

const on: readonly MigrationCapability[] = ["events", "return-path"];
const off = foreignCapabilities;
const old = { "downtime-limit": 300, "max-bandwidth": 134_217_728, "tls-creds": "" };
const recent = { ...old, "avail-switchover-bandwidth": 0 };

test("settings are as asked for while they are applied, and afterwards as they were", async () => {
  const states = fc.record(
    Object.fromEntries([...on, ...off, "zero-blocks"].map((name) => [name, fc.boolean()])),
  );
  await fc.assert(
    fc.asyncProperty(states, fc.boolean(), async (capabilities, isOld) => {
      const monitor = new Monitor(capabilities, isOld ? old : recent);
      const before = monitor.state;
      const settings = await readMigrationSettings(monitor.client, { on, off });
      assert.deepEqual(monitor.state, before);
      await applyMigrationSettings(monitor.client, iteratingSettings(settings));
      for (const name of on) assert.equal(monitor.capabilities.get(name), true);
      for (const name of off) assert.equal(monitor.capabilities.get(name), false);
      assert.equal(monitor.capabilities.get("zero-blocks"), capabilities["zero-blocks"]);
      assert.deepEqual(monitor.parameters, {
        "downtime-limit": 1,
        "max-bandwidth": 0,
        "tls-creds": "",
        ...(isOld ? {} : { "avail-switchover-bandwidth": 4000 }),
      });
      await applyMigrationSettings(monitor.client, settings);
      assert.deepEqual(monitor.state, before);
    }),
    { numRuns: 50 },
  );
});

test("a QEMU without a capability that is needed is refused before anything is changed", async () => {
  const monitor = new Monitor({ events: false }, recent);
  const before = monitor.state;
  const message = "this QEMU lacks the capability return-path: get a newer one";
  const needs = "get a newer one";
  await assert.rejects(readMigrationSettings(monitor.client, { on, off, needs }), {
    code: "QEMU_UNSUPPORTED",
    message,
  });
  assert.deepEqual(monitor.state, before);
});

test("with nothing to change nothing is said", async () => {
  const monitor = new Monitor({}, recent);
  await applyMigrationSettings(monitor.client, { capabilities: [], parameters: {} });
  assert.deepEqual(monitor.said, []);
});

test("a migration is over in four states, and before the first one", () => {
  assert.equal(isMigrationOver({}), true);
  const over = ["none", "completed", "failed", "cancelled"] as const;
  for (const status of over) assert.equal(isMigrationOver({ status }), true);
  const underWay = ["setup", "active", "cancelling", "device", "pre-switchover"] as const;
  for (const status of underWay) assert.equal(isMigrationOver({ status }), false);
});
