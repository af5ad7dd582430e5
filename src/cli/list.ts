import {
  act,
  clientFor,
  formatBytes,
  formatDuration,
  print,
  printJson,
  table,
  verb,
} from "./support/index.ts";

export function command() {
  return verb("list", "list VMs", ["list", "list --json | jq .vms[].name"]).action((options) =>
    act(options, async () => {
      const client = clientFor(options);
      const [vms, expectations] = [await client.listVms(), await client.listExpectations()];
      if (options.json) return printJson({ vms, expectations });
      if (vms.length + expectations.length === 0)
        return print("no VMs; start one with `godwit run FILE`");
      const rows = vms.map((vm) => [
        vm.name,
        vm.state,
        vm.memoryBytes === undefined ? "-" : formatBytes(vm.memoryBytes),
        vm.accelerator ?? "-",
        vm.pid === undefined ? "-" : String(vm.pid),
        age(vm.startedWallMs),
        vm.migration ?? "-",
      ]);
      const waiting = expectations.map((e) => [
        e.name,
        "expected",
        "-",
        "-",
        "-",
        age(e.sinceWallMs),
        "-",
      ]);
      const head = ["NAME", "STATE", "MEMORY", "ACCEL", "PID", "AGE", "MIGRATION"];
      print(table(head, [...rows, ...waiting]));
      for (const { name, note } of vms) if (note !== undefined) print(`${name}: ${note}`);
    }),
  );
}

function age(sinceWallMs: number | undefined): string {
  return sinceWallMs === undefined ? "-" : formatDuration(Math.max(0, Date.now() - sinceWallMs));
}
