/**
 * VMs that came here by a migration which is not settled: they arrive, or they were loaded and the source fell silent.
 * Noted in files, so that a daemon that was restarted neither loses nor runs one of them by mistake.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { PreparedVm } from "../migrate/index.ts";
import { listJson, makePrivateDirectory, readJson, writeJson } from "./files.ts";

const arrivalSchema = z.object({
  name: z.string(),
  migrationId: z.string(),
  sourceHost: z.string(),
  /** False when the VM was paused at the source. */
  run: z.boolean().default(true),
  phase: z.enum(["arriving", "kept"]),
  sinceWallMs: z.number(),
  vm: z.object({
    qmpPath: z.string(),
    pid: z.number().optional(),
    startTimeTicks: z.number().optional(),
    launched: z.boolean(),
  }),
});

export interface Arrival {
  readonly name: string;
  readonly migrationId: string;
  readonly sourceHost: string;
  readonly run: boolean;
  readonly phase: "arriving" | "kept";
  readonly sinceWallMs: number;
  readonly vm: PreparedVm;
}

/** Of arrivals that are settled: a source whose answer was lost asks again. */
const arrivedMax = 1_000;

export class Arrivals {
  readonly #directory: string;
  readonly #arrivedPath: string;
  #arrived: string[] = [];
  readonly #byName = new Map<string, Arrival>();

  constructor(runtimeDirectory: string) {
    this.#directory = join(runtimeDirectory, "arrivals");
    this.#arrivedPath = join(runtimeDirectory, "arrived.json");
  }

  /** Reads what a daemon before this one left. */
  async load(): Promise<void> {
    await makePrivateDirectory(this.#directory);
    const arrived = z.array(z.string()).safeParse(await readJson(this.#arrivedPath));
    this.#arrived = arrived.success ? arrived.data : [];
    for (const path of await listJson(this.#directory)) {
      const result = arrivalSchema.safeParse(await readJson(path));
      if (result.success) this.#byName.set(result.data.name, result.data as Arrival);
    }
  }

  get(name: string): Arrival | undefined {
    return this.#byName.get(name);
  }

  list(): Arrival[] {
    return Array.from(this.#byName.values());
  }

  ofMigration(migrationId: string): Arrival | undefined {
    return this.list().find((arrival) => arrival.migrationId === migrationId);
  }

  async put(arrival: Arrival): Promise<void> {
    this.#byName.set(arrival.name, arrival);
    await writeJson(this.#path(arrival.name), arrival);
  }

  /** The VM runs here (or, as at its source, is paused): that is remembered, and no longer an arrival. */
  async settle({ name, migrationId }: Arrival): Promise<void> {
    if (!this.#arrived.includes(migrationId)) {
      this.#arrived = [...this.#arrived, migrationId].slice(-arrivedMax);
      await writeJson(this.#arrivedPath, this.#arrived);
    }
    if (this.get(name)?.migrationId === migrationId) await this.delete(name);
  }

  hasArrived(migrationId: string): boolean {
    return this.#arrived.includes(migrationId);
  }

  async delete(name: string): Promise<void> {
    this.#byName.delete(name);
    await rm(this.#path(name), { force: true });
  }

  #path(name: string): string {
    return join(this.#directory, `${name}.json`);
  }
}
