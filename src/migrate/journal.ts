/**
 * The note that a source leaves before it hands over, so that a restarted daemon can tell how an interrupted migration
 * ended: the truth is in the source QEMU (`completed` = handed over), the note says where to look and whom to tell.
 * Replaced by rename: a reader sees the old note or the new one.
 */
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { TransportOptions } from "./job.ts";

export interface JournalEntry {
  readonly migrationId: string;
  readonly vmName: string;
  readonly host: string;
  readonly port: number;
  readonly qmpPath: string;
  /** Undefined when it could not be found out. */
  readonly pid: number | undefined;
  readonly transport: TransportOptions;
}

const schema = z.object({
  version: z.literal(1),
  migrationId: z.string(),
  vmName: z.string(),
  host: z.string(),
  port: z.number(),
  qmpPath: z.string(),
  pid: z.number().optional(),
  transport: z.object({ tlsDirectory: z.string().optional(), insecure: z.boolean() }),
});

function directory(runtimeDirectory: string): string {
  return join(runtimeDirectory, "migrations");
}

function file(runtimeDirectory: string, migrationId: string): string {
  return join(directory(runtimeDirectory), `${migrationId}.json`);
}

/** On return the note is on disk. */
export async function writeJournal(runtimeDirectory: string, entry: JournalEntry): Promise<void> {
  await mkdir(directory(runtimeDirectory), { recursive: true, mode: 0o700 });
  const path = file(runtimeDirectory, entry.migrationId);
  const handle = await open(`${path}.new`, "w", 0o600);
  try {
    await handle.writeFile(JSON.stringify({ version: 1, phase: "handing-over", ...entry }));
    await handle.datasync();
  } finally {
    await handle.close();
  }
  await rename(`${path}.new`, path);
}

export async function removeJournal(runtimeDirectory: string, migrationId: string): Promise<void> {
  await rm(file(runtimeDirectory, migrationId), { force: true });
}

/** All notes; one that cannot be read is left out (it never got its name, or a person edited it). */
export async function readJournals(runtimeDirectory: string): Promise<JournalEntry[]> {
  const names = await readdir(directory(runtimeDirectory)).catch(() => []);
  const entries: JournalEntry[] = [];
  for (const name of names) {
    if (!name.endsWith(".json")) continue;
    const text = await readFile(join(directory(runtimeDirectory), name), "utf8").catch(() => "{}");
    const parsed = schema.safeParse(parseJson(text));
    if (!parsed.success) continue;
    const { pid, transport, ...rest } = parsed.data;
    const { tlsDirectory, insecure } = transport;
    entries.push({ ...rest, pid, transport: { tlsDirectory, insecure } });
  }
  return entries;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
