import { act, clientFor, option, parseBytes, printJson, verb } from "./support/index.ts";

export function command() {
  return verb("console", "show a VM's console output", [
    "console web",
    "console web --no-follow --tail 1M",
  ])
    .description(
      "Shows the end of a VM's serial console and what comes, until Ctrl-C or the VM's end. Output only.",
    )
    .argument("<vm>", "its name")
    .option("--tail <bytes>", "how much of the past (default: 64K)", option("--tail", parseBytes))
    .option("--no-follow", "only the past")
    .action((vm, options) =>
      act(options, async () => {
        const client = clientFor(options);
        const bytes = options.tail ?? 65_536;
        const show = (text: string): void => {
          if (options.json) printJson({ type: "text", text });
          else process.stdout.write(text);
        };
        if (!options.follow) return show((await client.getConsole(vm, bytes)).text);
        const leave = new AbortController();
        process.once("SIGINT", () => leave.abort());
        const events = client.followConsole(vm, bytes, { signal: leave.signal });
        for await (const { text } of events) show(text);
      }),
    );
}
