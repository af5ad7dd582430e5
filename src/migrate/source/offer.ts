/** The first message to the destination: what is to come, and from whom. Pure. */
import { hostname } from "node:os";
import type { SendJob } from "../job.ts";
import type { SourceQemu } from "./qemu.ts";

/** Without a QEMU the VM counts as running. */
export function offerMessage(job: SendJob, qemu: SourceQemu | undefined): object {
  const version = qemu?.qmp.version.qemu;
  return {
    type: "offer",
    migrationId: job.migrationId,
    vmName: job.vmName,
    ...(job.definition === undefined ? {} : { definition: job.definition }),
    source: {
      godwitVersion: "1",
      qemuVersion: `${version?.major}.${version?.minor}.${version?.micro}`,
      host: hostname(),
    },
    run: qemu?.wasRunning ?? true,
    verify: job.options.verify,
  };
}
