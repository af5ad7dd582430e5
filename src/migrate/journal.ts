/**
 * The note that a source leaves before it hands over, so that a restarted daemon can tell how an interrupted migration
 * ended: the truth is in the source QEMU (`completed` = handed over), the note says where to look and whom to tell.
 * Replaced by rename: a reader sees the old note or the new one. The daemon reads them: src/daemon/recovery.ts.
 */
import { mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
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
