import {
  act,
  clientFor,
  followToEnd,
  migrationOptions,
  parseTarget,
  print,
  printJson,
  requestOptions,
} from "./support/index.ts";

export function command() {
  return migrationOptions("migrate", "move a running VM to another host", [
    "migrate web --to host2",
    "migrate web --to 10.0.0.2:7470 --downtime-limit 300ms --bandwidth 1Gbit",
    "migrate web --to host2 --timeout 10min --timeout-action switch-over --verify",
    "migrate web --to host2 --detach --json",
  ])
    .description(
      "Moves a running VM to another host's daemon. Ctrl-C cancels: the VM then runs here as before. " +
        "A second Ctrl-C leaves the rest to the daemon.",
    )
    .argument("<vm>", "its name")
    .action((vm, options) =>
      act(options, async () => {
        const client = clientFor(options);
        const migration = await client.startMigration({
          vm,
          ...parseTarget(options.to),
          insecure: options.insecure ?? false,
          options: requestOptions(options),
        });
        const json = options.json === true;
        if (!options.detach) {
          return await followToEnd(client, migration.id, { json, cancelOnInterrupt: true });
        }
        if (json) printJson(migration);
        else
          print(`migration ${migration.id} has begun; \`godwit watch ${migration.id}\` follows it`);
      }),
    );
}
