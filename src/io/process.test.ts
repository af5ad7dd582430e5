import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "./clock.ts";
import { isRunning, killProcess, systemProcesses } from "./process.ts";

const processes = systemProcesses;

async function temporaryDirectory() {
  const path = await mkdtemp(join(tmpdir(), "godwit-process-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

test("a program's output and exit code are its result, whatever the code", async () => {
  assert.deepEqual(await processes.run("sh", ["-c", "echo out; echo err >&2; exit 3"]), {
    code: 3,
    stdout: "out\n",
    stderr: "err\n",
  });
});

test("a program ended by a signal has the code -1", async () => {
  assert.equal((await processes.run("sh", ["-c", "kill -TERM $$"])).code, -1);
});

test("arguments are not interpreted by a shell", async () => {
  assert.equal((await processes.run("echo", ["$HOME; ls"])).stdout, "$HOME; ls\n");
});

test("a program that is not there is an IO error with advice", async () => {
  await assert.rejects(processes.run("godwit-no-such-program", []), {
    code: "IO",
    message: /installed/,
  });
});

test("a program that takes too long is killed", async () => {
  await assert.rejects(processes.run("sleep", ["60"], { deadlineMs: 50 }), { code: "TIMEOUT" });
});

test("a detached process logs to its file, is recognised, and ends by SIGTERM", async () => {
  await using directory = await temporaryDirectory();
  const logPath = join(directory.path, "log");
  const script = "echo $GODWIT_TEST; echo two >&2; exec sleep 60";
  const spec = {
    command: "sh",
    args: ["-c", script],
    logPath,
    environment: { GODWIT_TEST: "one" },
  };
  const child = await processes.start(spec);
  assert.ok(isRunning(processes, child));
  assert.deepEqual(processes.identify(child.pid), {
    pid: child.pid,
    startTimeTicks: child.startTimeTicks,
  });
  while ((await readFile(logPath, "utf8")) !== "one\ntwo\n") await sleepMs(5);
  await killProcess(child, { clock: systemClock });
  assert.equal(await child.ended, "signal SIGTERM");
  assert.ok(!isRunning(processes, child));
  await killProcess(child, { clock: systemClock });
});

test("a process that ignores SIGTERM is killed after the grace period", async () => {
  await using directory = await temporaryDirectory();
  const logPath = join(directory.path, "log");
  const args = ["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"];
  const child = await processes.start({ command: "sh", args, logPath });
  while ((await readFile(logPath, "utf8")) !== "ready\n") await sleepMs(5);
  await killProcess(child, { clock: systemClock, graceMs: 60 });
  assert.equal(await child.ended, "signal SIGKILL");
});

test("another process that has the same pid now is left alone", async () => {
  await using directory = await temporaryDirectory();
  const child = await processes.start({
    command: "sleep",
    args: ["60"],
    logPath: join(directory.path, "log"),
  });
  const earlier = { pid: child.pid, startTimeTicks: child.startTimeTicks - 1 };
  assert.equal(processes.signal(earlier, "SIGKILL"), false);
  assert.ok(isRunning(processes, child));
  await killProcess(child, { clock: systemClock, graceMs: 0 });
});

test("a detached program that is not there is an IO error", async () => {
  await using directory = await temporaryDirectory();
  const spec = { command: "/nonexistent/x", args: [], logPath: join(directory.path, "log") };
  await assert.rejects(processes.start(spec), { code: "IO", message: /\/nonexistent\/x/ });
});

function sleepMs(ms: number): Promise<void> {
  return new Promise((resolve) => {
    systemClock.after(ms, resolve);
  });
}
