import { resolve } from "node:path";
import type { GodwitClient } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import {
  act,
  clientFor,
  followToEnd,
  print,
  printJson,
  SilentFailure,
  verb,
} from "./support/index.ts";

export function command() {
  return verb("receive", "let a waiting QEMU receive a migration", [
    "receive --qmp /run/web/qmp.sock --name web",
    "receive --qmp /run/web/qmp.sock --name web --detach",
  ])
    .description(
      "Registers a QEMU that was started with `-S -incoming defer` under a name, waits for the migration of that name " +
        "(`godwit send` or `godwit migrate` at the source), and follows it. Ctrl-C before it begins takes the registration back.",
    )
    .requiredOption("--qmp <path>", "the QEMU's QMP socket; nobody else may use it meanwhile")
    .requiredOption("--name <name>", "the name that the source sends")
    .option("--detach", "register and return")
    .action((options) =>
      act(options, async () => {
        const client = clientFor(options);
        const request = { name: options.name, qmpPath: resolve(options.qmp) };
        const json = options.json === true;
        if (options.detach) {
          const expectation = await client.expectVm(request);
          return json ? printJson(expectation) : print(`${options.name} is expected`);
        }
        const id = await arrival(client, request, json);
        await followToEnd(client, id, { json, cancelOnInterrupt: false });
      }),
    );
}

/** Registers, and waits until the migration begins. Answers its id. */
async function arrival(
  client: GodwitClient,
  request: { name: string; qmpPath: string },
  json: boolean,
): Promise<string> {
  const leave = new AbortController();
  const onInterrupt = (): void => leave.abort();
  process.on("SIGINT", onInterrupt);
  try {
    // Before the registration, so that nothing is missed.
    const events = client.followAll({ signal: leave.signal });
    await events.next();
    const expectation = await client.expectVm(request);
    if (json) printJson({ type: "expected", expectation });
    else process.stderr.write(`waiting for ${request.name}; Ctrl-C takes it back\n`);
    for await (const event of events) {
      if (event.type !== "migration" && event.type !== "finished") continue;
      const { id, vm, role } = event.migration;
      if (vm === request.name && role === "destination") return id;
    }
    if (!leave.signal.aborted) throw new GodwitError("IO", "the daemon ended");
    await client.forgetExpectation(request.name).catch(() => {});
    process.stderr.write(`${request.name} is no longer expected\n`);
    throw new SilentFailure();
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}
