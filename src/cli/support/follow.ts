/** Follows one migration to its end, on a terminal, in a pipe, or as JSON lines. */
import type { GodwitClient, Migration, MigrationEvent } from "../../api/index.ts";
import { GodwitError } from "../../base/index.ts";
import { printJson } from "./command.ts";
import { SilentFailure } from "./errors.ts";
import { createScreen } from "./screen.ts";
import { succeeded, summary } from "./summary.ts";

export interface FollowOptions {
  readonly json: boolean;
  /** Ctrl-C asks the daemon to cancel and waits; a second one leaves. Without it Ctrl-C leaves. */
  readonly cancelOnInterrupt: boolean;
}

/** Ends normally when the VM is at the destination; else fails, everything said already. */
export async function followToEnd(
  client: GodwitClient,
  id: string,
  options: FollowOptions,
): Promise<void> {
  const leave = new AbortController();
  const screen = createScreen(process.stderr, () => performance.now());
  const say = (text: string): void => {
    if (!options.json) screen.line(text);
  };
  const onInterrupt = (): void => {
    if (!options.cancelOnInterrupt || cancelling) return leave.abort();
    cancelling = true;
    say("cancelling; press Ctrl-C again to leave it to the daemon");
    client.cancelMigration(id).catch((error: unknown) => say(String(error)));
  };
  let cancelling = false;
  process.on("SIGINT", onInterrupt);
  try {
    const ended = await pump(client.followMigration(id, { signal: leave.signal }), (event, now) => {
      if (options.json) printJson(event);
      else if (event.type === "line") screen.line(event.line.text);
      else if (event.type === "progress") screen.progress(now);
      else if (event.type === "migration") {
        for (const line of event.migration.lines) screen.line(line.text);
        screen.progress(now);
      }
    });
    if (!options.json) screen.clear();
    if (ended === undefined) throw left(id, leave.signal.aborted);
    if (!options.json) process.stdout.write(`${summary(ended)}\n`);
    if (!succeeded(ended)) throw new SilentFailure();
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}

/** Puts events together to what is known so far. Answers the last migration when it ended. */
async function pump(
  events: AsyncIterable<MigrationEvent>,
  each: (event: MigrationEvent, now: Migration) => void,
): Promise<Migration | undefined> {
  let now: Migration | undefined;
  for await (const event of events) {
    if (event.type === "migration" || event.type === "finished") now = event.migration;
    else if (event.type === "progress" && now !== undefined) {
      now = { ...now, progress: event.progress };
    }
    if (now !== undefined) each(event, now);
    if (event.type === "finished") return event.migration;
  }
  return undefined;
}

function left(id: string, byUser: boolean): Error {
  if (byUser) {
    process.stderr.write(`the migration goes on; see it with \`godwit watch ${id}\`\n`);
    return new SilentFailure();
  }
  return new GodwitError(
    "IO",
    `the daemon ended during migration ${id}; when it runs again, \`godwit status ${id}\` tells what happened`,
  );
}
