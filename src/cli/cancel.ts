import { act, clientFor, print, printJson, verb } from "./support/index.ts";

export function command() {
  return verb("cancel", "cancel a migration", ["cancel 1f0c2a9b7e", "cancel web"])
    .description(
      "Cancels a migration that is not handed over yet and waits for its end. The VM runs on at the source.",
    )
    .argument("<migration|vm>", "the beginning of its id, or the VM's name")
    .option("--detach", "do not wait")
    .action((what, options) =>
      act(options, async () => {
        const client = clientFor(options);
        const running = (await client.listMigrations()).filter(({ state }) => state === "running");
        const id = running.find(({ vm }) => vm === what)?.id ?? what;
        const migration = await client.cancelMigration(id);
        if (options.detach) {
          return options.json ? printJson(migration) : print(`${migration.id} is being cancelled`);
        }
        const ended = await endOf(client, migration.id);
        if (options.json) printJson(ended);
        else print(`${ended.vm}: ${ended.state}. ${ended.text ?? ""}`.trim());
        // What was asked for did not happen.
        if (ended.state !== "cancelled") process.exitCode = 1;
      }),
    );
}

async function endOf(client: ReturnType<typeof clientFor>, id: string) {
  for await (const event of client.followMigration(id)) {
    if (event.type === "finished") return event.migration;
  }
  return await client.getMigration(id);
}
