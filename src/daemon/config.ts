/** The daemon's configuration: checked once, here. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { z } from "zod";
import {
  defaultRuntimeDirectory,
  defaultSocketPath,
  formatHostPort,
  type HostPort,
  isLoopback,
  migrationPortDefault,
  parseHostPort,
} from "../api/index.ts";
import { GodwitError } from "../base/index.ts";

/** What may be given; everything has a default. */
export const configSchema = z.strictObject({
  socket: z.string().optional(),
  listen: z.string().optional(),
  listenApi: z.string().optional(),
  tokenFile: z.string().optional(),
  runtimeDirectory: z.string().optional(),
  stateDirectory: z.string().optional(),
  tls: z.string().optional(),
  insecure: z.boolean().optional(),
  allowExtraArguments: z.boolean().optional(),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error"]).optional(),
  /** For tests: another program in the place of the migration worker. */
  workerPath: z.string().optional(),
});

export type ConfigInput = z.input<typeof configSchema>;

export interface Config {
  readonly socketPath: string;
  /** Where migrations arrive. Port 0: any free one. */
  readonly listen: HostPort;
  readonly listenApi: HostPort | undefined;
  readonly tokenFile: string | undefined;
  readonly runtimeDirectory: string;
  readonly stateDirectory: string;
  readonly tlsDirectory: string | undefined;
  readonly insecure: boolean;
  /** Definitions of peers may hold arguments for QEMU, and so run any program here. */
  readonly allowExtraArguments: boolean;
  readonly logLevel: "trace" | "debug" | "info" | "warn" | "error";
  readonly workerPath: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Fails with CONFIG_INVALID or INSECURE. */
export function resolveConfig(
  given: unknown,
  environment: Environment = process.env,
  uid: number = process.getuid?.() ?? 0,
): Config {
  const result = configSchema.safeParse(given);
  if (!result.success) throw new GodwitError("CONFIG_INVALID", z.prettifyError(result.error));
  const input = result.data;
  const runtimeDirectory = resolve(
    input.runtimeDirectory ?? defaultRuntimeDirectory(environment, uid),
  );
  const config: Config = {
    socketPath: resolve(input.socket ?? socketPath(input, runtimeDirectory, environment, uid)),
    listen: parseHostPort(input.listen ?? "127.0.0.1", migrationPortDefault),
    listenApi: input.listenApi === undefined ? undefined : parseHostPort(input.listenApi),
    tokenFile: input.tokenFile === undefined ? undefined : resolve(input.tokenFile),
    runtimeDirectory,
    stateDirectory: resolve(input.stateDirectory ?? defaultStateDirectory(environment, uid)),
    tlsDirectory: input.tls === undefined ? undefined : resolve(input.tls),
    insecure: input.insecure ?? false,
    allowExtraArguments: input.allowExtraArguments ?? false,
    logLevel: input.logLevel ?? "info",
    workerPath: input.workerPath ?? join(import.meta.dirname, "../migrate/worker.ts"),
  };
  checkSecurity(config);
  return config;
}

/** With a runtime directory of its own a daemon gets a socket of its own. */
function socketPath(
  input: ConfigInput,
  runtimeDirectory: string,
  environment: Environment,
  uid: number,
): string {
  if (input.runtimeDirectory === undefined) return defaultSocketPath(environment, uid);
  return environment["GODWIT_SOCKET"] || join(runtimeDirectory, "godwit.sock");
}

function defaultStateDirectory(environment: Environment, uid: number): string {
  if (uid === 0) return "/var/lib/godwit";
  const base = environment["XDG_STATE_HOME"];
  const home = environment["HOME"] ?? homedir();
  return join(base !== undefined && base !== "" ? base : join(home, ".local/state"), "godwit");
}

function checkSecurity({ listen, listenApi, tokenFile, tlsDirectory, insecure }: Config): void {
  if (!isLoopback(listen.host) && tlsDirectory === undefined && !insecure) {
    throw new GodwitError(
      "INSECURE",
      `--listen ${formatHostPort(listen)} without --tls would let every machine that reaches it start and read VMs here; ` +
        "make credentials with `godwit tls init` and give --tls DIRECTORY, or, in a network that you trust, add --insecure",
    );
  }
  if (listenApi === undefined) return;
  if (tokenFile === undefined) {
    throw new GodwitError(
      "INSECURE",
      "--listen-api needs --token-file FILE (a new token is written to it when it does not exist)",
    );
  }
  if (!isLoopback(listenApi.host) && !insecure) {
    throw new GodwitError(
      "INSECURE",
      `--listen-api ${formatHostPort(listenApi)} would send the token unencrypted over the network; ` +
        "listen on 127.0.0.1 and reach it with `ssh -L`, or, in a network that you trust, add --insecure",
    );
  }
}

/** Of this godwit. */
export function programVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(file, "utf8")) as { version: string };
  return version;
}
