/** What is known about one migration, for whoever asks; bounded. Its worker writes it, users read it. */
import type { Line, Migration, MigrationEvent, MigrationState } from "../api/index.ts";
import type { ErrorRecord } from "../base/index.ts";
import type { MigrationOutcome, MigrationProgress, Role } from "../migrate/index.ts";

const linesMax = 1_000;
const lineCharactersMax = 2_000;

export interface MigrationIdentity {
  /** Unique in this daemon. */
  readonly id: string;
  readonly migrationId: string;
  readonly role: Role;
  readonly vm: string;
  readonly peer: string;
  readonly startedWallMs: number;
}

export interface Ending {
  readonly state: Exclude<MigrationState, "running">;
  readonly text: string;
  readonly error?: ErrorRecord | undefined;
  readonly report?: MigrationOutcome["report"] | undefined;
  readonly finishedWallMs: number;
}

export class MigrationRecord {
  readonly identity: MigrationIdentity;
  readonly #emit: (event: MigrationEvent) => void;
  readonly #lines: Line[] = [];
  #progress: MigrationProgress | undefined;
  #ending: Ending | undefined;

  constructor(identity: MigrationIdentity, emit: (event: MigrationEvent) => void) {
    this.identity = identity;
    this.#emit = emit;
  }

  get running(): boolean {
    return this.#ending === undefined;
  }

  progress(progress: MigrationProgress): void {
    if (!this.running) return;
    this.#progress = progress;
    this.#emit({ type: "progress", id: this.identity.id, progress });
  }

  say(text: string, wallMs: number): void {
    const line = { wallMs, text: text.slice(0, lineCharactersMax) };
    this.#lines.push(line);
    if (this.#lines.length > linesMax) this.#lines.shift();
    this.#emit({ type: "line", id: this.identity.id, line });
  }

  /** Once; later ones are ignored. */
  finish(ending: Ending): void {
    if (!this.running) return;
    this.#ending = ending;
    this.#emit({ type: "finished", migration: this.view() });
  }

  view(): Migration {
    return {
      ...this.identity,
      state: "running",
      ...this.#ending,
      progress: this.#progress,
      lines: [...this.#lines],
    };
  }
}
