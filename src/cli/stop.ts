import { act, clientFor, option, parseDuration, print, printJson, verb } from "./support/index.ts";

export function command() {
  return verb("stop", "power a VM down, or end it", [
    "stop web",
    "stop web --timeout 5min",
    "stop --kill web",
  ])
    .description(
      "Presses the VM's power button and waits until it is off. --kill ends QEMU at once, whatever the guest does.",
    )
    .argument("<vm>", "its name")
    .option("--kill", "end QEMU at once")
    .option(
      "--timeout <time>",
      "how long to wait (default: 1min); 0s does not wait",
      option("--timeout", parseDuration),
    )
    .action((vm, options) =>
      act(options, async () => {
        const done = await clientFor(options).stopVm(vm, {
          how: options.kill ? "kill" : "powerdown",
          timeoutMs: options.timeout ?? 60_000,
        });
        if (options.json) printJson(done);
        else print(done.text);
      }),
    );
}
