/** A program that registered itself with the guest's agent (docs/protocols/assist.md). */
import type { AgentApplication, AgentProcess } from "./agent/index.ts";
import type { Participant } from "./participant.ts";
import type { MemoryRange } from "./ranges.ts";

export class ApplicationParticipant implements Participant {
  readonly kind = "area";
  readonly process: AgentProcess;
  readonly name: string;
  areas: readonly MemoryRange[] = [];
  /** It has given its areas up: on every connection that it has. */
  isReady = false;

  constructor({ pid, startTimeTicks, name }: AgentApplication) {
    this.process = {
      pid,
      startTimeTicks,
      namespacePid: pid,
      uid: 0,
      threadCount: 0,
      command: name,
    };
    this.name = name === "" ? `process ${pid}` : name;
  }

  /** `connections` are those of this program now; none: it has withdrawn everything. */
  update(connections: readonly AgentApplication[]): void {
    this.areas = connections.flatMap(({ areas }) => areas);
    this.isReady = connections.length > 0 && connections.every(({ state }) => state === "ready");
  }

  owns({ pid, startTimeTicks }: AgentApplication): boolean {
    return pid === this.process.pid && startTimeTicks === this.process.startTimeTicks;
  }

  disposable(): Promise<readonly MemoryRange[]> {
    return Promise.resolve(this.areas);
  }
}
