/** A program that registered itself with the guest's agent (docs/protocols/assist.md). */
import type { AgentApplication, AgentProcess } from "./agent/index.ts";
import type { Participant } from "./participant.ts";
import type { MemoryRange } from "./ranges.ts";

export class ApplicationParticipant implements Participant {
  readonly kind = "area";
  readonly process: AgentProcess;
  readonly name: string;
  areas: readonly MemoryRange[];

  constructor(application: AgentApplication) {
    const { pid, startTimeTicks, name, areas } = application;
    this.process = {
      pid,
      startTimeTicks,
      namespacePid: pid,
      uid: 0,
      threadCount: 0,
      command: name,
    };
    this.name = name === "" ? `process ${pid}` : name;
    this.areas = areas;
  }

  disposable(): Promise<readonly MemoryRange[]> {
    return Promise.resolve(this.areas);
  }
}
