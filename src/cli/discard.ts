import { act, clientFor, print, printJson, verb } from "./support/index.ts";

export function command() {
  return verb("discard", "throw away a VM that was kept or crashed", ["discard web"])
    .description(
      "Ends the QEMU of a VM that was kept after a migration, or was handed over, and removes what a crashed one left. " +
        "Disk images stay. A VM that runs is refused: `godwit stop`.",
    )
    .argument("<vm>", "its name")
    .action((vm, options) =>
      act(options, async () => {
        const done = await clientFor(options).discardVm(vm);
        if (options.json) printJson(done);
        else print(done.text);
      }),
    );
}
