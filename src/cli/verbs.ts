/** All verbs in the order of `godwit --help`, each in a file that is loaded when it is used. */
import type { Command } from "@commander-js/extra-typings";

interface Verb {
  readonly summary: string;
  readonly load: () => Promise<Command>;
}

/** Options and arguments are each verb's own affair; here it is only a command. */
interface VerbModule {
  command(): unknown;
}

async function from(module: Promise<VerbModule>): Promise<Command> {
  return (await module).command() as Command;
}

export const verbs: Readonly<Record<string, Verb>> = {
  daemon: { summary: "run this host's daemon", load: () => from(import("./daemon.ts")) },
  run: { summary: "start a VM from a definition", load: () => from(import("./run.ts")) },
  list: { summary: "list VMs", load: () => from(import("./list.ts")) },
  status: {
    summary: "tell about the daemon, a VM or a migration",
    load: () => from(import("./status.ts")),
  },
  watch: { summary: "follow migrations", load: () => from(import("./watch.ts")) },
  migrate: {
    summary: "move a running VM to another host",
    load: () => from(import("./migrate.ts")),
  },
  advise: {
    summary: "tell which compression fits a VM, or a trace",
    load: () => from(import("./advise.ts")),
  },
  trace: {
    summary: "record which pages a VM writes, into a file",
    load: () => from(import("./trace.ts")),
  },
  cancel: { summary: "cancel a migration", load: () => from(import("./cancel.ts")) },
  send: {
    summary: "migrate a QEMU that godwit did not start",
    load: () => from(import("./send.ts")),
  },
  receive: {
    summary: "let a waiting QEMU receive a migration",
    load: () => from(import("./receive.ts")),
  },
  stop: { summary: "power a VM down, or end it", load: () => from(import("./stop.ts")) },
  console: { summary: "show a VM's console output", load: () => from(import("./console.ts")) },
  continue: {
    summary: "run a VM that is stopped or was kept",
    load: () => from(import("./continue.ts")),
  },
  discard: {
    summary: "throw away a VM that was kept or crashed",
    load: () => from(import("./discard.ts")),
  },
  doctor: { summary: "tell what this host can do", load: () => from(import("./doctor.ts")) },
  guest: { summary: "build the small test guest", load: () => from(import("./guest.ts")) },
  tls: { summary: "make TLS credentials for hosts", load: () => from(import("./tls.ts")) },
  demo: { summary: "show a migration on this machine", load: () => from(import("./demo.ts")) },
};
