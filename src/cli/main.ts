/** `godwit VERB`: only the verb that is asked for is loaded. */
import { readFileSync } from "node:fs";
import { Command } from "@commander-js/extra-typings";
import { verbs } from "./verbs.ts";

const { version } = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
) as { version: string };

const program = new Command("godwit")
  .description("Live migration and replication of virtual machines on unmodified QEMU/KVM")
  .version(version, "-V, --version")
  .configureHelp({ showGlobalOptions: false })
  .addHelpText(
    "after",
    `
Examples:
  $ godwit daemon                          on both hosts
  $ godwit run web.yaml
  $ godwit migrate web --to host2 --downtime-limit 300ms

Exit codes: 0 success, 1 failed, 2 wrong usage. docs/cli.md tells all.`,
  )
  .showHelpAfterError("(godwit --help lists the verbs)")
  .exitOverride();

const words = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const wanted = words[0] === "help" ? words[1] : words[0];

for (const [name, { summary, load }] of Object.entries(verbs)) {
  if (name === wanted) program.addCommand(overridden(await load()));
  else program.command(name).summary(summary).allowUnknownOption();
}

/** So that a wrong use ends with our exit code. */
function overridden(command: Command): Command {
  command.exitOverride();
  for (const sub of command.commands) overridden(sub as Command);
  return command;
}

try {
  await program.parseAsync();
} catch (error) {
  await report(error);
}

async function report(error: unknown): Promise<void> {
  const { CommanderError } = await import("commander");
  if (error instanceof CommanderError) {
    // Said already by commander; --help and --version are no errors.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    return;
  }
  const { reportError } = await import("./support/index.ts");
  reportError(error, process.argv.includes("--json"));
}
