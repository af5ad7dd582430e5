/** What all verbs have in common. */
import { readFileSync } from "node:fs";
import { Command } from "@commander-js/extra-typings";
import {
  type ClientTarget,
  defaultSocketPath,
  GodwitClient,
  parseHostPort,
} from "../../api/index.ts";
import { reportError, UsageError } from "./errors.ts";

export interface CommonOptions {
  readonly json?: true | undefined;
  readonly socket?: string | undefined;
}

/** A verb that talks to the daemon. `examples` are shown by --help, one to a line. */
export function verb(name: string, summary: string, examples: readonly string[]) {
  return local(name, summary, examples).option("--socket <path>", "the daemon's API socket");
}

/** A verb that needs no daemon. */
export function local(name: string, summary: string, examples: readonly string[]) {
  const lines = examples.map((example) => `  $ godwit ${example}`).join("\n");
  return new Command(name)
    .summary(summary)
    .description(summary)
    .option("--json", "one JSON object, or one to a line when following")
    .addHelpText("after", `\nExamples:\n${lines}`)
    .showHelpAfterError(`(godwit ${name} --help tells more)`);
}

/** Runs a verb's action; its failure is reported and becomes the exit code. */
export async function act(
  options: { readonly json?: true | undefined },
  action: () => Promise<void>,
): Promise<void> {
  try {
    await action();
  } catch (error) {
    reportError(error, options.json === true);
  }
}

export function clientFor(options: CommonOptions): GodwitClient {
  return new GodwitClient(targetFor(options, process.env));
}

/** --socket, else $GODWIT_API (with $GODWIT_TOKEN_FILE), else the default socket. */
export function targetFor(
  { socket }: CommonOptions,
  environment: Readonly<Record<string, string | undefined>>,
): ClientTarget {
  if (socket !== undefined) return { socketPath: socket };
  const api = environment["GODWIT_API"];
  if (api === undefined || api === "") {
    return { socketPath: defaultSocketPath(environment, process.getuid?.() ?? 0) };
  }
  const file = environment["GODWIT_TOKEN_FILE"];
  if (file === undefined) {
    throw new UsageError("GODWIT_API needs a token", "set GODWIT_TOKEN_FILE to the daemon's file");
  }
  const { host, port } = parseHostPort(api.replace(/^http:\/\//, "").replace(/\/$/, ""));
  return { host, port, token: readToken(file) };
}

function readToken(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    throw new UsageError(`the token file ${path} cannot be read`, "check GODWIT_TOKEN_FILE");
  }
}

/** Turns a failed parse into a usage error that names the option. */
export function option<T>(flag: string, parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const advice = error instanceof UsageError ? error.advice : undefined;
      throw new UsageError(`${flag}: ${message}`, advice);
    }
  };
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value));
}
