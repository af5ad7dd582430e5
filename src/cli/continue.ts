import { act, clientFor, print, printJson, verb } from "./support/index.ts";

export function command() {
  return verb("continue", "run a VM that is stopped or was kept", ["continue web"])
    .description(
      "Runs a VM that is paused, or that was kept stopped because the source fell silent during its migration. " +
        "In that case make sure first that it does not run at the source.",
    )
    .argument("<vm>", "its name")
    .option("--force", "also run a VM that was handed over; only if it certainly runs nowhere else")
    .action((vm, options) =>
      act(options, async () => {
        const done = await clientFor(options).continueVm(vm, options.force ?? false);
        if (options.json) printJson(done);
        else print(done.text);
      }),
    );
}
