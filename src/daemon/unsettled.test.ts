/** Migrations whose end one side does not know: notes stay, and attempts go on, until the destination has answered. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { FakeQemu } from "../../test/daemon/fake-qemu.ts";
import { endOf, startDaemon, temporaryFolder } from "../../test/daemon/harness.ts";

const retryMs = 50;

async function until(what: string, ask: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (await ask()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`${what} did not happen`);
}

/** A destination whose answers are given, and a daemon that finds a note. */
async function set(answers: (string | Error)[]) {
  const scope = new AsyncDisposableStack();
  const folder = scope.use(await temporaryFolder()).path;
  const qmpPath = join(folder, "source.sock");
  const source = scope.use(await FakeQemu.listen(qmpPath, "postmigrate"));
  source.migration = "completed";
  const told: string[] = [];
  const tell = async (_: unknown, outcome: string): Promise<string> => {
    told.push(outcome);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer instanceof Error) throw answer;
    return answer ?? "not here";
  };
  const directory = join(folder, "run/migrations");
  const note = join(directory, "abc.json");
  return {
    folder,
    qmpPath,
    source,
    told,
    note,
    async leaveNote() {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const journal = { migrationId: "abc", vmName: "web", host: "host2", port: 7470, qmpPath };
      await writeFile(note, JSON.stringify({ version: 1, phase: "handing-over", ...journal }));
    },
    start: async () => scope.use(await startDaemon(folder, {}, { tell, retryMs })),
    [Symbol.asyncDispose]: () => scope.disposeAsync(),
  };
}

test("a note stays until the destination has given a final answer", async () => {
  const answers = [new Error("unreachable"), "still arriving", "failed: it hangs"];
  await using one = await set(answers);
  await one.leaveNote();
  const { client } = await one.start();
  await until("four attempts", () => one.told.length >= 4);
  assert.ok(existsSync(one.note));
  assert.match((await client.getMigration("abc")).text ?? "", /could not be told: unreachable/);
  answers[0] = "running";
  await until("the note to go", () => !existsSync(one.note));
  await until("the correction", async () => (await client.getMigration("abc")).state === "done");
  assert.match((await client.getMigration("abc")).text ?? "", /Settled since: .*of it: running/);
  assert.deepEqual(new Set(one.told), new Set(["handed-over"]));
  const count = one.told.length;
  await new Promise((resolve) => setTimeout(resolve, 4 * retryMs));
  assert.equal(one.told.length, count);
});

test("what QEMU said once holds, whatever becomes of the VM", async () => {
  const answers: (string | Error)[] = [new Error("unreachable")];
  await using one = await set(answers);
  one.source.status = "running";
  one.source.migration = "failed";
  await one.leaveNote();
  {
    await using first = await one.start();
    await until("an attempt", () => one.told.length > 0);
    await endOf(first.client, "abc");
  }
  assert.ok(existsSync(one.note));
  // It was migrated elsewhere: that says nothing of this migration.
  one.source.status = "postmigrate";
  one.source.migration = "completed";
  answers[0] = "discarded";
  const { client } = await one.start();
  await until("the note to go", () => !existsSync(one.note));
  assert.deepEqual(new Set(one.told), new Set(["aborted"]));
  await until("the correction", async () => {
    return /Settled since/.test((await client.getMigration("abc")).text ?? "");
  });
  assert.equal((await client.listMigrations()).length, 1);
});

test("while it is not known whether a VM was handed over it is not migrated again", async () => {
  await using one = await set(["running"]);
  one.source.status = "running";
  await one.leaveNote();
  const { client, target } = await one.start();
  await assert.rejects(client.startMigration({ qmpPath: one.qmpPath, name: "web", ...target }), {
    code: "CONFLICT",
    message: /not known yet how the migration abc/,
  });
  assert.deepEqual(one.told, []);
});

test("a migration that the destination did not confirm is settled without a restart", async () => {
  const answers: (string | Error)[] = [new Error("unreachable")];
  await using one = await set(answers);
  one.source.status = "running";
  const waitingPath = join(one.folder, "waiting.sock");
  await using _waiting = await FakeQemu.listen(waitingPath, "inmigrate");
  const { client, target } = await one.start();
  await client.expectVm({ name: "silent-1", qmpPath: waitingPath });
  const { qmpPath } = one;
  const { id } = await client.startMigration({ qmpPath, name: "silent-1", ...target });
  const ending = endOf(client, id);
  one.source.status = "postmigrate";
  assert.equal((await ending).state, "unconfirmed");
  await until("attempts", () => one.told.length >= 2);
  assert.ok(existsSync(join(one.folder, `run/migrations/${id}.json`)));
  answers[0] = "running";
  await until("the correction", async () => (await client.getMigration(id)).state === "done");
  assert.ok(!existsSync(join(one.folder, `run/migrations/${id}.json`)));
});
