/** A process in the guest that takes part: what it declares disposable now, and what of that is dead once it is held. */
import { GodwitError } from "../base/index.ts";
import type { AgentClient, AgentProcess, FrameRuns } from "./agent/index.ts";
import type { MemoryRange } from "./ranges.ts";

/** What disposable memory is, as the report tells it apart. */
export type DisposableKind = "young" | "area";

export interface Participant {
  readonly process: AgentProcess;
  readonly kind: DisposableKind;
  /** For people: "java (JDK 17, Parallel)". */
  readonly name: string;
  /** Disposable now; asks the guest. */
  disposable(): Promise<readonly MemoryRange[]>;
}

/** Where a participant's disposable memory lies in the guest's memory; asks again only what has changed. */
export class ParticipantFrames {
  readonly participant: Participant;
  readonly #agent: AgentClient;
  #digest: bigint | undefined;
  runs: FrameRuns | undefined;

  constructor(agent: AgentClient, participant: Participant) {
    this.#agent = agent;
    this.participant = participant;
  }

  /** Answers whether anything changed. Fails with ASSIST_UNSUPPORTED when more is declared than there can be. */
  async refresh(bytesMax: number): Promise<boolean> {
    const ranges = await this.participant.disposable();
    const bytes = ranges.reduce((sum, range) => sum + range.bytes, 0);
    if (bytes > bytesMax) {
      throw new GodwitError("ASSIST_UNSUPPORTED", "it declares more memory than the guest has");
    }
    if (ranges.length === 0) {
      const changed = this.runs !== undefined;
      this.runs = undefined;
      this.#digest = undefined;
      return changed;
    }
    const runs = await this.#agent.frames(this.participant.process, ranges, this.#digest);
    if (runs === undefined) return false;
    this.runs = runs;
    this.#digest = runs.digest;
    return true;
  }

  get presentBytes(): number {
    return (this.runs?.presentPages ?? 0) * 4096;
  }
}
