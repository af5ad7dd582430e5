import { Command } from "@commander-js/extra-typings";
import { act, local, runScript } from "./support/index.ts";

export function command() {
  const build = local("build", "build a test guest (kernel and initrd) into the cache", [
    "guest build",
    "guest build java --json",
  ])
    .argument("[variant]", "small or java", "small")
    .option("--force", "build again what is there")
    .action((variant, options) =>
      act(options, async () => {
        const flags = [...(options.json ? ["--json"] : []), ...(options.force ? ["--force"] : [])];
        await runScript("guest/image/build.ts", [variant, ...flags]);
      }),
    );
  return new Command("guest").summary("build the small test guest").addCommand(build);
}
