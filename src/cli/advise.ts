/** `godwit advise`: for a VM by its daemon, for a trace file by a process started here. */
import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Advice, AdviceEvent, AdviseVmRequest } from "../api/index.ts";
import { fromErrorRecord, GodwitError } from "../base/index.ts";
import {
  act,
  adviceText,
  clientFor,
  type CommonOptions,
  option,
  parseBandwidth,
  parseBytes,
  parseDuration,
  parseShare,
  print,
  printJson,
  runScript,
  SilentFailure,
  UsageError,
  verb,
} from "./support/index.ts";

export function command() {
  return verb("advise", "tell which compression fits a VM, or a trace", [
    "advise web",
    "advise web --link 200Mbit --cpu 50% --memory 1G --picture web.svg",
    "advise ./web.gtrace --interval 25ms",
  ])
    .description(
      "Records the pages that a VM writes, for some seconds, compresses them in all ways and tells which one fits the link, " +
        "the CPU time and the memory that there are for it. A name with a slash, or one that ends in .gtrace, is a trace " +
        "file; that needs no daemon.",
    )
    .argument("<vm|file>", "the VM's name, or a trace's path")
    .option(
      "--link <rate>",
      "of the link, like 1Gbit or 100MB (default: 1Gbit)",
      option("--link", parseLink),
    )
    .option("--cpu <share>", "of one core, like 20% (default: 20%)", option("--cpu", parseShare))
    .option(
      "--memory <size>",
      "for what is kept of earlier pages (default: 256M)",
      option("--memory", parseBytes),
    )
    .option(
      "--duration <time>",
      "how long to look at a VM (default: 5s)",
      option("--duration", parseDuration),
    )
    .option(
      "--interval <time>",
      "length of an epoch (default: 100ms)",
      option("--interval", parseDuration),
    )
    .option("--picture <file>", "write ratio against CPU time as an SVG")
    .action((what, options) =>
      act(options, async () => {
        const constraints = {
          linkBytesPerSecond: options.link ?? 125_000_000,
          cpuShare: options.cpu ?? 0.2,
          memoryBytes: options.memory ?? 256 * 2 ** 20,
        };
        const { interval: intervalMs, duration: durationMs } = options;
        const advice = isFile(what)
          ? await adviseFile(what, intervalMs, constraints, options)
          : await adviseVm(what, { ...constraints, durationMs, intervalMs }, options);
        if (options.picture !== undefined) await writePicture(options.picture, advice);
        const { picture: _, ...rest } = advice;
        if (options.json) printJson(rest);
        else print(adviceText(advice));
      }),
    );
}

function isFile(what: string): boolean {
  return what.includes("/") || what.endsWith(".gtrace");
}

function parseLink(text: string): number {
  const bytesPerSecond = parseBandwidth(text);
  if (bytesPerSecond > 0) return bytesPerSecond;
  throw new UsageError("a link without limit needs no compression", "write its rate, like 10Gbit");
}

async function adviseVm(
  name: string,
  request: AdviseVmRequest,
  options: CommonOptions,
): Promise<Advice> {
  const leave = new AbortController();
  process.once("SIGINT", () => leave.abort());
  const events = clientFor(options).adviseVm(name, request, { signal: leave.signal });
  let advice: Advice | undefined;
  for await (const event of events) advice = take(event, options) ?? advice;
  if (advice !== undefined) return advice;
  if (leave.signal.aborted) throw new SilentFailure();
  throw new GodwitError("IO", "the daemon ended before its advice was there");
}

async function adviseFile(
  path: string,
  intervalMs: number | undefined,
  constraints: object,
  options: CommonOptions,
): Promise<Advice> {
  const job = { path: resolve(path), intervalMs, constraints };
  let [advice, failure] = [undefined as Advice | undefined, undefined as unknown];
  const line = (text: string): void => {
    try {
      advice = take(JSON.parse(text) as AdviceEvent, options) ?? advice;
    } catch (error) {
      failure = error;
    }
  };
  await runScript("src/daemon/advise-main.ts", [JSON.stringify(job)], { line }).catch(
    (error: unknown) => {
      failure ??= error;
    },
  );
  if (advice !== undefined) return advice;
  throw failure ?? new SilentFailure();
}

/** Shows progress; answers the advice, or fails as the advisor did. */
function take(event: AdviceEvent, { json }: CommonOptions): Advice | undefined {
  if (event.type === "failed") {
    throw fromErrorRecord(event.error as Parameters<typeof fromErrorRecord>[0]);
  }
  if (event.type === "finished") return event.advice;
  if (json !== true) process.stderr.write(`${event.text}\n`);
  return undefined;
}

async function writePicture(path: string, { picture }: Advice): Promise<void> {
  try {
    await writeFile(path, picture);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GodwitError("IO", `the picture cannot be written: ${why}`, { cause });
  }
}
