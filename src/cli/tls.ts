import { resolve } from "node:path";
import { Command } from "@commander-js/extra-typings";
import { act, local, runScript } from "./support/index.ts";

const script = "src/daemon/tls-main.ts";

export function command() {
  const init = local("init", "make a private certificate authority", ["tls init /root/godwit-ca"])
    .argument("<directory>", "where; keep it off the hosts")
    .action((directory, options) =>
      act(options, async () => {
        await runScript(script, flags(options, ["init", resolve(directory)]));
      }),
    );
  const issue = local("issue", "make a host's credentials", [
    "tls issue /root/godwit-ca host2 --ip 10.0.0.2",
    "tls issue /root/godwit-ca host2 --dns host2.example.org",
  ])
    .description(
      "Makes the folder DIRECTORY/HOST with what HOST's daemon needs; copy it there and start `godwit daemon --tls FOLDER`.",
    )
    .argument("<directory>", "of the authority")
    .argument("<host>", "its name, as others use it in --to")
    .option("--dns <name...>", "more names by which others connect to it")
    .option("--ip <address...>", "addresses by which others connect to it")
    .action((directory, host, options) =>
      act(options, async () => {
        const more = [
          ...(options.dns ?? []).flatMap((name) => ["--dns", name]),
          ...(options.ip ?? []).flatMap((address) => ["--ip", address]),
        ];
        await runScript(script, flags(options, ["issue", resolve(directory), host, ...more]));
      }),
    );
  return new Command("tls")
    .summary("make TLS credentials for hosts")
    .addCommand(init)
    .addCommand(issue);
}

function flags(options: { json?: true | undefined }, args: string[]): string[] {
  return options.json ? [...args, "--json"] : args;
}
