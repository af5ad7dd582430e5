import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import {
  act,
  clientFor,
  formatBytes,
  print,
  printJson,
  UsageError,
  verb,
} from "./support/index.ts";

export function command() {
  return verb("run", "start a VM from a definition", [
    "run web.yaml",
    "run web.yaml --name web2",
    "run - < web.yaml",
  ])
    .description(
      "Starts a VM from a YAML (or JSON) definition; docs/vm-definition.schema.json tells its keys.",
    )
    .argument("<file>", "the definition; - reads standard input")
    .option("--name <name>", "instead of the definition's own name")
    .option("--paused", "do not run the guest yet; `godwit continue` does")
    .action((file, options) =>
      act(options, async () => {
        const vm = await clientFor(options).startVm({
          ...(await readDefinition(file)),
          name: options.name,
          paused: options.paused ?? false,
        });
        if (options.json) return printJson(vm);
        const memory = vm.memoryBytes === undefined ? "" : `, ${formatBytes(vm.memoryBytes)}`;
        print(`${vm.name} is ${vm.state} (QEMU ${vm.qemuVersion}, ${vm.accelerator}${memory})`);
      }),
    );
}

/** Paths in a definition are relative to its file; for standard input, to the working directory. */
async function readDefinition(file: string) {
  try {
    if (file === "-") {
      const text = await readFile("/dev/stdin", "utf8");
      return { text, source: "standard input", baseDirectory: process.cwd() };
    }
    const text = await readFile(file, "utf8");
    return { text, source: file, baseDirectory: dirname(resolve(file)) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`cannot read the definition: ${why}`);
  }
}
