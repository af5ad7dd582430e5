import type { GodwitClient, Migration } from "../api/index.ts";
import {
  act,
  clientFor,
  createScreen,
  followToEnd,
  printJson,
  summary,
  verb,
} from "./support/index.ts";

export function command() {
  return verb("watch", "follow migrations", ["watch", "watch 1f0c2a9b7e", "watch --json"])
    .description("Follows one migration until it ends, or all of them until Ctrl-C.")
    .argument("[migration]", "the beginning of its id")
    .action((id, options) =>
      act(options, async () => {
        const client = clientFor(options);
        const json = options.json === true;
        if (id === undefined) return await watchAll(client, json);
        await followToEnd(client, id, { json, cancelOnInterrupt: false });
      }),
    );
}

async function watchAll(client: GodwitClient, json: boolean): Promise<void> {
  const leave = new AbortController();
  process.once("SIGINT", () => leave.abort());
  const screen = createScreen(process.stderr, () => performance.now());
  const known = new Map<string, Migration>();
  for await (const event of client.followAll({ signal: leave.signal })) {
    if (json) printJson(event);
    if (json || event.type === "expectation" || event.type === "following") continue;
    if (event.type === "finished") {
      known.delete(event.migration.id);
      screen.line(summary(event.migration));
      continue;
    }
    if (event.type === "migration") known.set(event.migration.id, event.migration);
    const before = known.get(event.type === "migration" ? event.migration.id : event.id);
    if (before === undefined) continue;
    if (event.type === "line") {
      screen.line(`${before.vm}: ${event.line.text}`);
      continue;
    }
    const now = event.type === "progress" ? { ...before, progress: event.progress } : before;
    known.set(now.id, now);
    screen.progress(now);
  }
  screen.clear();
}
