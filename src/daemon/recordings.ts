/**
 * Notes of the recordings under way, `<runtimeDirectory>/recordings/<id>.json`, for the case that the daemon and the process
 * that records are both killed: the next daemon puts QEMU's settings back and removes the files that are not whole.
 */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import type { MigrationSettings } from "../qemu/qmp/index.ts";
import { listJson, readJson } from "./files.ts";

const identity = z.object({ pid: z.int().positive(), startTimeTicks: z.int() });

const noteSchema = z.object({
  vmName: z.string(),
  /** Of the trace. */
  path: z.string(),
  /** Of the QEMU; another one may have the VM's name by now. */
  vm: identity,
  worker: identity,
  /** What to put back; absent as long as nothing was changed. */
  settings: z
    .object({
      capabilities: z.array(z.object({ capability: z.string(), state: z.boolean() })),
      parameters: z.record(z.string(), z.unknown()),
    })
    .transform((settings) => settings as MigrationSettings)
    .optional(),
});

export type RecordingNote = z.output<typeof noteSchema>;

export class RecordingNotes {
  readonly directory: string;

  constructor(runtimeDirectory: string) {
    this.directory = join(runtimeDirectory, "recordings");
  }

  /** At once, as what it is for may come at any moment. */
  write(id: string, note: RecordingNote): void {
    const path = this.#path(id);
    writeFileSync(`${path}.tmp`, `${JSON.stringify(note)}\n`, { mode: 0o600 });
    renameSync(`${path}.tmp`, path);
  }

  remove(id: string): void {
    rmSync(this.#path(id), { force: true });
  }

  /** By id. One that cannot be used is removed. */
  async read(): Promise<Map<string, RecordingNote>> {
    const found = new Map<string, RecordingNote>();
    for (const path of await listJson(this.directory)) {
      const id = basename(path, ".json");
      const { success, data } = noteSchema.safeParse(await readJson(path));
      if (success) found.set(id, data);
      else this.remove(id);
    }
    return found;
  }

  #path(id: string): string {
    return join(this.directory, `${id}.json`);
  }
}
