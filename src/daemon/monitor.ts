/** Short visits to monitors of QEMUs that this daemon does not hold. */
import { GodwitError } from "../base/index.ts";
import type { Clock } from "../io/index.ts";
import { QmpClient } from "../qemu/qmp/index.ts";

/** Connects, asks, lets go: QEMU serves one client per monitor, and the worker comes next. */
export async function visit<T>(
  qmpPath: string,
  clock: Clock,
  ask: (monitor: QmpClient) => Promise<T>,
): Promise<T> {
  try {
    await using monitor = await QmpClient.connect(qmpPath, { clock, deadlineMs: 5_000 });
    return await ask(monitor);
  } catch (cause) {
    if (!(cause instanceof GodwitError)) throw cause;
    if (cause.code !== "QMP_CLOSED" && cause.code !== "TIMEOUT") throw cause;
    throw new GodwitError(
      cause.code,
      `no QMP monitor answers at ${qmpPath} (${cause.message}); is it QEMU's -qmp unix:PATH,server=on,wait=off socket, and free?`,
      { cause },
    );
  }
}

export async function runStateAt(qmpPath: string, clock: Clock): Promise<string> {
  return await visit(qmpPath, clock, async (monitor) => {
    return (await monitor.execute("query-status")).status;
  });
}
