import type { World } from "../world.ts";
import type { Checker } from "./checker.ts";

/**
 * When all is quiet exactly one VM runs. None may run only when a fault killed the QEMU that held it, or when the source
 * has let go and something stands between it and the destination: then the destination has the VM, whole and stopped.
 */
export const oneCopy: Checker = {
  name: "one copy",
  atEnd(world: World): string | undefined {
    const { sourceQemu } = world;
    const destinationQemu = world.destination.qemu;
    if (sourceQemu.vmRuns || world.destinationRuns) return undefined;
    if (sourceQemu.state !== "completed") {
      return sourceQemu.alive ? "the source VM is stopped for ever" : undefined;
    }
    if (destinationQemu?.killed === true) return undefined;
    if (destinationQemu?.state !== "loaded") return "godwit threw the only copy of the VM away";
    return excuse(world) ? undefined : "the VM waits at the destination, and nothing is in the way";
  },
};

/** What keeps the source's word from reaching a destination that could act on it. */
function excuse(world: World): boolean {
  if (!Number.isFinite(world.network.restedMs)) return true;
  if (!world.source.alive || !world.destination.alive) return true;
  // Asked to start it and refused: that is reported, and a person has to look.
  return world.faults.some(
    ({ kind }) => kind === "destination-qemu-refuses" || kind === "journal-fails",
  );
}
