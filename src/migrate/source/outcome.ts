/** What became of a migration, in a sentence for the operator. Pure. */
import type { MigrationOutcome, SendJob } from "../job.ts";

/** `letGo`: QEMU has handed its VM over. */
export function outcomeText(
  job: SendJob,
  result: MigrationOutcome["result"],
  letGo: boolean,
  reason = "unknown",
): string {
  const where = `${job.host}:${job.port}`;
  switch (result) {
    case "done":
      return `${job.vmName} is now at ${where}`;
    case "cancelled":
      return `${reason}; ${job.vmName} stays here`;
    case "unconfirmed":
      if (!letGo) {
        return (
          `whether ${job.vmName} was handed over to ${where} is not known (${reason}), because its QEMU here does not answer. ` +
          `Look at it first: if it runs here, godwit discard ${job.vmName} at the destination; if it is in state postmigrate ` +
          `or gone, godwit continue ${job.vmName} there`
        );
      }
      return (
        `${job.vmName} was handed over to ${where}, which did not confirm that it runs (${reason}). It is stopped here and ` +
        `must not be started here unless it is discarded there. At the destination: godwit status ${job.vmName}, ` +
        `then godwit continue ${job.vmName}`
      );
    default:
      return `${reason}; ${job.vmName} stays here`;
  }
}
