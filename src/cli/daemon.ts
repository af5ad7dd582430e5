import { join } from "node:path";
import { Option } from "@commander-js/extra-typings";
import { local } from "./support/index.ts";

const summary = "run this host's daemon";

export function command() {
  return local("daemon", summary, [
    "daemon",
    "daemon --listen 0.0.0.0:7470 --tls /etc/godwit/tls",
    "daemon --listen-api 127.0.0.1:7471 --token-file /etc/godwit/token",
  ])
    .description(
      "Starts and looks after VMs, sends and receives migrations, and serves the API that all other verbs use. " +
        "Ends on SIGTERM or Ctrl-C: migrations are cancelled, VMs run on and are found again.",
    )
    .option("--socket <path>", "API socket (default: /run/godwit/godwit.sock as root)")
    .option("--listen <host:port>", "where migrations arrive (default: 127.0.0.1:7470)")
    .option("--tls <directory>", "credentials for migrations, see `godwit tls`")
    .option("--insecure", "allow migrations without TLS to and from other machines")
    .option(
      "--allow-extra-arguments",
      "accept VMs whose definition has extraArguments: peers may then run any program here",
    )
    .option("--listen-api <host:port>", "serve the API over TCP as well; needs --token-file")
    .option("--token-file <path>", "token for the TCP API; written when missing")
    .option("--runtime-directory <path>", "sockets and running VMs (default: /run/godwit as root)")
    .option("--state-directory <path>", "history (default: /var/lib/godwit as root)")
    .addOption(
      new Option("--log-level <level>", "of the JSON logs on stderr (default: info)").choices([
        "trace",
        "debug",
        "info",
        "warn",
        "error",
      ] as const),
    )
    .addOption(new Option("--worker-path <path>").hideHelp())
    .action((given) => {
      const config: Partial<typeof given> = { ...given };
      // Its logs are JSON anyway.
      delete config.json;
      become(join(import.meta.dirname, "../daemon/daemon-main.ts"), config);
    });
}

/** The daemon takes this process's place: a service manager sees one process, and signals reach it. */
function become(script: string, config: object): void {
  const args = [process.execPath, script, JSON.stringify(config)];
  process.execve?.(process.execPath, args, process.env);
  throw new Error("this Node cannot replace its process (process.execve)");
}
