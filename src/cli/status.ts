import type { GodwitClient, Host, Migration, Vm } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import {
  act,
  clientFor,
  facts,
  formatBytes,
  formatDuration,
  print,
  printJson,
  progressLine,
  summary,
  table,
  verb,
} from "./support/index.ts";

export function command() {
  return verb("status", "tell about the daemon, a VM or a migration", [
    "status",
    "status web",
    "status 1f0c2a9b7e",
  ])
    .argument("[vm|migration]", "a VM's name or the beginning of a migration's id")
    .action((what, options) =>
      act(options, async () => {
        const client = clientFor(options);
        if (what === undefined) return await showHost(client, options.json === true);
        const vm = await orUndefined(client.getVm(what));
        if (vm !== undefined) return options.json ? printJson(vm) : print(vmText(vm));
        const migration = await orUndefined(client.getMigration(what));
        if (migration === undefined) {
          throw new GodwitError("NOT_FOUND", `there is no VM and no migration ${what}`);
        }
        if (options.json) return printJson(migration);
        print(migrationText(migration));
      }),
    );
}

async function orUndefined<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    const absent = error instanceof GodwitError && error.code === "NOT_FOUND";
    if (absent && error.details["daemon"] === undefined) return undefined;
    throw error;
  }
}

async function showHost(client: GodwitClient, json: boolean): Promise<void> {
  const host = await client.getHost();
  const migrations = await client.listMigrations();
  if (json) return printJson({ host, migrations });
  print(hostText(host));
  if (migrations.length === 0) return;
  const rows = migrations
    .slice(-20)
    .toReversed()
    .map((m) => [m.id, m.vm, m.role, m.peer, m.state, when(m), downtime(m)]);
  print(`\n${table(["MIGRATION", "VM", "ROLE", "PEER", "STATE", "STARTED", "DOWNTIME"], rows)}`);
}

function hostText(host: Host): string {
  return facts([
    ["godwit", `${host.version} (process ${host.pid})`],
    ["host", host.hostname],
    ["migrations arrive at", host.migrationAddress ?? "nowhere"],
    ["encrypted", host.tls ? "yes, with TLS" : "no"],
    ["runtime directory", host.runtimeDirectory],
    ["state directory", host.stateDirectory],
  ]);
}

function vmText(vm: Vm): string {
  const age = vm.startedWallMs === undefined ? undefined : Date.now() - vm.startedWallMs;
  return facts([
    ["name", vm.name],
    ["state", vm.state],
    ["note", vm.note],
    ["migration", vm.migration],
    ["memory", vm.memoryBytes === undefined ? undefined : formatBytes(vm.memoryBytes)],
    ["vcpus", vm.vcpus === undefined ? undefined : String(vm.vcpus)],
    ["machine", vm.machineType],
    ["accelerator", vm.accelerator],
    ["QEMU", vm.qemuVersion],
    ["process", vm.pid === undefined ? undefined : String(vm.pid)],
    ["age", age === undefined ? undefined : formatDuration(Math.max(0, age))],
    ["monitor", vm.qmpPath],
    ["console log", vm.consoleLogPath],
    ["QEMU's log", vm.logPath],
    ["started by", vm.launched ? "godwit" : "somebody else"],
  ]);
}

function migrationText(migration: Migration): string {
  const head = facts([
    ["migration", migration.id],
    ["role", migration.role],
    ["started", new Date(migration.startedWallMs).toISOString()],
  ]);
  const said = migration.lines.slice(-20).map(({ text }) => `  ${text}`);
  const now = migration.state === "running" ? progressLine(migration) : summary(migration);
  return [head, ...said, now].join("\n");
}

function when({ startedWallMs }: Migration): string {
  return `${formatDuration(Math.max(0, Date.now() - startedWallMs))} ago`;
}

function downtime({ report }: Migration): string {
  return report?.downtimeMs === undefined ? "-" : formatDuration(report.downtimeMs);
}
