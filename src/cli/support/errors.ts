/** Failures as a user sees them: a line that says what, a line that says what to do, an exit code. */
import { type ErrorCode, GodwitError } from "../../base/index.ts";

export const exitCodes = { ok: 0, failed: 1, usage: 2 } as const;

/** Something about the command line itself. */
export class UsageError extends Error {
  override name = "UsageError";
  readonly advice: string | undefined;

  constructor(message: string, advice?: string) {
    super(message);
    this.advice = advice;
  }
}

/** Already reported; only the exit code is left. */
export class SilentFailure extends Error {
  override name = "SilentFailure";
}

/** Only where a message does not say itself what to do. */
const adviceByCode: Readonly<Partial<Record<ErrorCode, string>>> = {
  DEFINITION_INVALID:
    "docs/vm-definition.schema.json tells every key; editors can check against it",
  PEER_LOST: "check that the daemon of the other host runs and that its port can be reached",
  TLS: "each host needs files from the same authority: `godwit tls init`, `godwit tls issue`",
};

export function adviceFor(error: unknown): string | undefined {
  if (error instanceof UsageError) return error.advice;
  if (!(error instanceof GodwitError)) return undefined;
  if (error.details["daemon"] === "absent") {
    return "start it with `godwit daemon`, or name its socket with --socket or GODWIT_SOCKET";
  }
  if (/there is no VM/.test(error.message)) return "`godwit list` shows all VMs";
  if (/there is no migration/.test(error.message)) return "`godwit status` shows migrations";
  return adviceByCode[error.code];
}

export function exitCodeOf(error: unknown): number {
  return error instanceof UsageError ? exitCodes.usage : exitCodes.failed;
}

/** For standard error; with --json for standard output as well. */
export function describeError(error: unknown): { code: string; message: string; advice?: string } {
  const advice = adviceFor(error);
  const message = error instanceof Error ? error.message : String(error);
  const code =
    error instanceof GodwitError ? error.code : error instanceof UsageError ? "USAGE" : "INTERNAL";
  return { code, message, ...(advice === undefined ? {} : { advice }) };
}

/** Prints an error and sets the exit code. */
export function reportError(error: unknown, json: boolean): void {
  process.exitCode = exitCodeOf(error);
  if (error instanceof SilentFailure) return;
  const described = describeError(error);
  if (json) process.stdout.write(`${JSON.stringify({ error: described })}\n`);
  else {
    process.stderr.write(`godwit: ${described.message}\n`);
    if (described.advice !== undefined) process.stderr.write(`  ${described.advice}\n`);
  }
  if (process.env["GODWIT_DEBUG"]) process.stderr.write(`${stackOf(error)}\n`);
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncaused by ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
