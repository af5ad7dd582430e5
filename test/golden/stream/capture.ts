/**
 * Captures real migration streams: node test/golden/stream/capture.ts --qemu PATH [--only NAME]
 *
 * For each variant one QEMU runs guest.S under software emulation, migrates into this process, and the bytes go to
 * <version>/<variant>.stream.zst with <variant>.json beside them. The JSON holds what oracle.py (Python, shares no code
 * with the reader) found in the stream, what QEMU says that it sent, and the SHA-256 of QEMU's own memory file after the
 * last byte. Uses its own few lines of QMP, so that a fault in src/ cannot hide itself. README.md says when to rerun it.
 */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { constants, zstdCompressSync } from "node:zlib";
import { type Variant, variants } from "./variants.ts";

const here = import.meta.dirname;
const memoryBytes = 4 << 20;
const waitMsMax = 30_000;

type Reply = Record<string, unknown>;
type Execute = (execute: string, args?: object) => Promise<Reply>;

const { values } = parseArgs({ options: { qemu: { type: "string" }, only: { type: "string" } } });
const qemu = values.qemu ?? "qemu-system-x86_64";
const versionText = execFileSync(qemu, ["--version"], { encoding: "utf8" });
const version = /version ([0-9.]+)/.exec(versionText)?.[1] ?? "unknown";
const release = version.startsWith("7.") ? 7 : 10;
const outDirectory = join(here, version);
mkdirSync(outDirectory, { recursive: true });

for (const variant of variants) {
  if (variant.only !== undefined && variant.only !== release) continue;
  if (values.only !== undefined && values.only !== variant.name) continue;
  await capture(variant);
}

async function capture(variant: Variant): Promise<void> {
  const directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "godwit-"));
  const memoryFile = join(directory, "memory");
  const bios = buildGuest(directory);
  const disk = join(directory, "disk");
  const rom = join(directory, "option.rom");
  writeFileSync(disk, new Uint8Array(65_536));
  writeFileSync(
    rom,
    Buffer.from("55aa04cb", "hex").toString("latin1").padEnd(2048, "\0"),
    "latin1",
  );
  const fill = (text: string) => text.replaceAll("$disk", disk).replaceAll("$rom", rom);
  const machine = variant.ownMemory ? variant.machine : `${variant.machine},memory-backend=m0`;
  const memory = `memory-backend-file,id=m0,mem-path=${memoryFile},size=${memoryBytes},share=on`;
  const args = [
    ..."-accel tcg -m 4M -nodefaults -display none -machine".split(" "),
    machine,
    "-bios",
    bios,
    "-qmp",
    `unix:${directory}/qmp,server=on,wait=off`,
    ...(variant.ownMemory ? [] : ["-object", memory]),
    ...(variant.stopped ? ["-S"] : []),
    ...(variant.arguments ?? []).map(fill),
  ];
  const child = spawn(qemu, args, { stdio: ["ignore", "inherit", "inherit"] });
  const { server, stream, channels } = listen(join(directory, "stream"), variant);
  try {
    const execute = await openMonitor(join(directory, "qmp"));
    if (!variant.stopped) await sleep(400);
    const info = await migrate(variant, execute, `unix:${directory}/stream`);
    const bytes = await stream(variant.refused === undefined);
    const status = await execute("query-status");
    const memorySha256 =
      variant.ownMemory || variant.refused
        ? undefined
        : createHash("sha256").update(readFileSync(memoryFile)).digest("hex");
    save(variant, bytes, directory, {
      qemu: versionText.split("\n")[0],
      machine: variant.machine,
      arguments: variant.arguments ?? [],
      capabilities: variant.capabilities ?? [],
      parameters: variant.parameters ?? {},
      channels: channels(),
      runState: status["status"],
      queryMigrate: info,
      memorySha256,
    });
  } finally {
    child.kill("SIGKILL");
    server.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Compares nothing and keeps everything: the test decides. */
function save(variant: Variant, bytes: Buffer, directory: string, facts: object): void {
  const kept = variant.refused ? bytes.subarray(0, variant.keepBytes ?? 65_536) : bytes;
  const raw = join(directory, "raw");
  writeFileSync(raw, kept);
  const oracle = variant.refused
    ? undefined
    : (JSON.parse(
        execFileSync("python3", [join(here, "oracle.py"), raw], { encoding: "utf8" }),
      ) as object);
  const compressed = zstdCompressSync(kept, {
    params: { [constants.ZSTD_c_compressionLevel]: 19 },
  });
  writeFileSync(join(outDirectory, `${variant.name}.stream.zst`), compressed);
  const record = { ...facts, refused: variant.refused, incomplete: variant.incomplete, oracle };
  writeFileSync(join(outDirectory, `${variant.name}.json`), `${JSON.stringify(record, null, 2)}\n`);
  console.log(version, variant.name, bytes.length, "→", compressed.length);
}

async function migrate(variant: Variant, execute: Execute, uri: string): Promise<Reply> {
  for (const { execute: command, arguments: args } of variant.before ?? []) {
    await execute(command, args);
  }
  const capabilities = (variant.capabilities ?? []).map((capability) => ({
    capability,
    state: true,
  }));
  if (capabilities.length > 0) await execute("migrate-set-capabilities", { capabilities });
  const rounds = variant.rounds ?? 2;
  // 1 ms at 1 MB/s is less than a page, and 0.1 s, the grain of QEMU's rate limit, is less than what the guest dirties in
  // a pass: so no pass leaves so little that QEMU would finish.
  const slow = { "downtime-limit": 1, "max-bandwidth": 1_000_000 };
  const fast = { "downtime-limit": 30_000, "max-bandwidth": 2 ** 33 };
  await execute("migrate-set-parameters", {
    ...(rounds > 1 ? slow : fast),
    ...variant.parameters,
  });
  await execute("migrate", { uri });
  const deadline = Date.now() + waitMsMax;
  let raised = rounds <= 1;
  for (;;) {
    const info = await execute("query-migrate");
    const status = info["status"] as string;
    const ram = info["ram"] as Record<string, number> | undefined;
    if (!raised && (ram?.["dirty-sync-count"] ?? 0) > rounds) {
      await execute("migrate-set-parameters", fast);
      raised = true;
    }
    if (["completed", "failed", "colo"].includes(status) || Date.now() > deadline) return info;
    await sleep(5);
  }
}

/**
 * Collects what the main channel sends; answers PONG and SHUT as a destination would. SHUT may not come early: QEMU 7.2
 * closes its socket for writing when it reads it.
 */
function listen(path: string, variant: Variant) {
  const pieces: Buffer[] = [];
  let ended = false;
  let channelCount = 0;
  let shut: NodeJS.Timeout | undefined;
  const server: Server = createServer((socket) => {
    channelCount++;
    socket.on("error", () => undefined);
    socket.once("data", (first: Buffer) => {
      if (first.toString("latin1", 0, 4) !== "QEVM") {
        socket.resume();
        return;
      }
      pieces.push(first);
      socket.on("end", () => {
        ended = true;
      });
      socket.on("data", (chunk: Buffer) => {
        pieces.push(chunk);
        shut?.refresh();
      });
      if (variant.capabilities?.includes("return-path") !== true) return;
      socket.write(Buffer.from("0002000400000001", "hex"));
      // A pause this long means that the source has written everything and waits.
      shut = setTimeout(() => socket.write(Buffer.from("0001000400000000", "hex")), 1000);
    });
  });
  server.listen(path);
  const hasEnded = (): boolean => ended;
  const stream = async (toTheEnd: boolean): Promise<Buffer> => {
    const deadline = Date.now() + (toTheEnd ? 5000 : 500);
    while (Date.now() < deadline && !hasEnded()) await sleep(10);
    if (toTheEnd && !hasEnded()) throw new Error(`${variant.name}: no end`);
    return Buffer.concat(pieces);
  };
  return { server, stream, channels: () => channelCount };
}

/** A monitor in a few lines: one command at a time, events ignored. */
async function openMonitor(path: string): Promise<Execute> {
  for (let i = 0; i < 200 && !existsSync(path); i++) await sleep(20);
  const socket = connect(path);
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  const execute: Execute = async (command, args = {}) => {
    socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const line = await lines.next();
      if (line.done === true) throw new Error(`${command}: the monitor closed`);
      const message = JSON.parse(line.value) as { return?: Reply; error?: object };
      if (message.error) throw new Error(`${command}: ${JSON.stringify(message.error)}`);
      if (message.return) return message.return;
    }
  };
  await execute("qmp_capabilities");
  return execute;
}

function buildGuest(directory: string): string {
  const object = join(directory, "guest.o");
  const image = join(directory, "guest.bin");
  execFileSync("cc", ["-c", "-m32", join(here, "guest.S"), "-o", object]);
  const flags = "-m elf_i386 -Ttext 0 --oformat binary".split(" ");
  execFileSync("ld", [...flags, object, "-o", image]);
  return image;
}
