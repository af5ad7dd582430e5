/** The options that `migrate` and `send` share. */
import { Option } from "@commander-js/extra-typings";
import {
  compressChoices,
  type HostPort,
  type MigrateRequestOptions,
  migrationPortDefault,
  parseHostPort,
} from "../../api/index.ts";
import { option, verb } from "./command.ts";
import { UsageError } from "./errors.ts";
import { parseBandwidth, parseBytes, parseDuration } from "./units.ts";

/** A verb of that name with the options. */
export function migrationOptions(name: string, summary: string, examples: readonly string[]) {
  return verb(name, summary, examples)
    .requiredOption("--to <host[:port]>", `the destination's daemon (port ${migrationPortDefault})`)
    .option(
      "--downtime-limit <time>",
      "switch over when the VM would stand still no longer than this (default: 300ms)",
      option("--downtime-limit", parseDuration),
    )
    .option(
      "--bandwidth <rate>",
      "send no faster: 1Gbit (bits) or 100MB (bytes) a second (default: no limit)",
      option("--bandwidth", parseBandwidth),
    )
    .option(
      "--timeout <time>",
      "limit on the whole migration, like 10min (default: none)",
      option("--timeout", parseDuration),
    )
    .addOption(
      new Option("--timeout-action <action>", "what to do then (default: cancel)").choices([
        "cancel",
        "switch-over",
      ] as const),
    )
    .addOption(
      new Option(
        "--when-stalled <action>",
        "when rounds stop shrinking and the limit is not met (default: switch-over)",
      ).choices(["switch-over", "continue", "cancel"] as const),
    )
    .addOption(
      new Option(
        "--assist <choice>",
        "let applications in the guest leave out memory they do not need (default: auto)",
      ).choices(["auto", "off", "require"] as const),
    )
    .addOption(
      new Option(
        "--gc <way>",
        "how a Java VM comes to a garbage collection before the switch-over (default: auto)",
      ).choices(["auto", "wait", "provoke", "none"] as const),
    )
    .option(
      "--assist-timeout <time>",
      "how long applications may take to get ready (default: 5s)",
      option("--assist-timeout", parseDuration),
    )
    .option("--drop-caches", "the guest gives up its clean page cache first")
    .addOption(
      new Option("--compress <codec>", "compress what travels (default: none)").choices(
        compressChoices,
      ),
    )
    .option(
      "--compress-level <level>",
      "of gzip (1 to 9), zstd or hybrid (-7 to 9): more is smaller and slower (default: 1)",
      option("--compress-level", parseLevel),
    )
    .option(
      "--compress-memory <size>",
      "what delta, similarity, hybrid and auto may remember, at both ends (default: 256M)",
      option("--compress-memory", parseBytes),
    )
    .option("--verify", "compare all memory of both VMs before the destination runs")
    .option("--insecure", "allow plain TCP to another machine")
    .option("--detach", "start it and return")
    .addOption(new Option("--drop-share <share>").argParser(Number).hideHelp())
    .addOption(new Option("--drop-seed <seed>").argParser(Number).hideHelp());
}

type Given = ReturnType<ReturnType<typeof migrationOptions>["opts"]>;

/** As the API wants them. */
export function requestOptions(given: Given): MigrateRequestOptions {
  return {
    downtimeLimitMs: given.downtimeLimit,
    bandwidthBytesPerSecond: given.bandwidth,
    timeoutMs: given.timeout,
    timeoutAction: given.timeoutAction,
    whenStalled: given.whenStalled,
    verify: given.verify,
    assist: given.assist,
    gc: given.gc,
    assistTimeoutMs: given.assistTimeout,
    dropCaches: given.dropCaches,
    compress: given.compress,
    compressLevel: given.compressLevel,
    compressMemoryBytes: given.compressMemory,
    dropShare: given.dropShare,
    dropSeed: given.dropSeed,
  };
}

function parseLevel(text: string): number {
  if (/^-?\d{1,2}$/.test(text)) return Number(text);
  throw new UsageError(`"${text}" is no level`, "write a whole number, like 1");
}

export function parseTarget(text: string): HostPort {
  return option("--to", (value) => parseHostPort(value, migrationPortDefault))(text);
}
