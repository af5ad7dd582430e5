/** Migrations that ended, the last hundred: one JSON line each in `<stateDirectory>/migrations.jsonl`. */
import { appendFile, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Migration } from "../api/index.ts";
import { replies } from "../api/contract/index.ts";
import { makeDirectory } from "./files.ts";

const keptMax = 100;
/** The file is rewritten when it is read with more lines than this. */
const fileLinesMax = 500;
const linesOfOneMax = 50;

export class History {
  readonly #directory: string;
  readonly #path: string;
  #kept: Migration[] = [];

  constructor(stateDirectory: string) {
    this.#directory = stateDirectory;
    this.#path = join(stateDirectory, "migrations.jsonl");
  }

  async load(): Promise<void> {
    await makeDirectory(this.#directory);
    const text = await readFile(this.#path, "utf8").catch(() => "");
    const lines = text.split("\n").filter((line) => line !== "");
    // A later line of the same id corrects the earlier one.
    const byId = new Map(lines.flatMap(parse).map((migration) => [migration.id, migration]));
    this.#kept = Array.from(byId.values()).slice(-keptMax);
    if (lines.length <= fileLinesMax) return;
    const rest = this.#kept.map((migration) => `${JSON.stringify(migration)}\n`).join("");
    await writeFile(`${this.#path}.tmp`, rest, { mode: 0o600 });
    await rename(`${this.#path}.tmp`, this.#path);
  }

  /** Oldest first. */
  list(): readonly Migration[] {
    return this.#kept;
  }

  async add(migration: Migration): Promise<void> {
    const short = { ...migration, lines: migration.lines.slice(-linesOfOneMax) };
    this.#kept.push(short);
    if (this.#kept.length > keptMax) this.#kept.shift();
    await appendFile(this.#path, `${JSON.stringify(short)}\n`, { mode: 0o600 });
  }

  /** Says otherwise of one that ended; of one that is not listed any more, nothing. */
  async correct(migration: Migration): Promise<void> {
    const at = this.#kept.findIndex(({ id }) => id === migration.id);
    if (at < 0) return;
    this.#kept[at] = migration;
    await appendFile(this.#path, `${JSON.stringify(migration)}\n`, { mode: 0o600 });
  }
}

/** Half a line, from a crash in the middle of writing, is left out. */
function parse(line: string): Migration[] {
  try {
    const result = replies.migration.safeParse(JSON.parse(line));
    return result.success ? [result.data] : [];
  } catch {
    return [];
  }
}
