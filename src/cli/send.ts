import { resolve } from "node:path";
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
  return migrationOptions("send", "migrate a QEMU that godwit did not start", [
    "send --qmp /run/web/qmp.sock --name web --to host2",
  ])
    .description(
      "Migrates any QEMU, known by its QMP socket, to a QEMU that waits at the destination under the same name " +
        "(`godwit receive` there). Afterwards the source QEMU is left stopped (postmigrate) to whoever started it.",
    )
    .requiredOption("--qmp <path>", "the QEMU's QMP socket; nobody else may use it meanwhile")
    .requiredOption("--name <name>", "the name under which the destination waits")
    .action((options) =>
      act(options, async () => {
        const client = clientFor(options);
        const migration = await client.startMigration({
          qmpPath: resolve(options.qmp),
          name: options.name,
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
