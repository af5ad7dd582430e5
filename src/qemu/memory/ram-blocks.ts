/**
 * Where QEMU keeps the guest's memory in its own address space: HMP `info ramblock`, which has the column HVA (host virtual
 * address) since QEMU 8.0.
 *
 *               Block Name    PSize              Offset               Used              Total                HVA  RO
 *                   pc.ram    4 KiB  0x0000000000000000 0x0000000008000000 0x0000000008000000 0x00007f154be00000  rw
 */
import { GodwitError } from "../../base/index.ts";

export interface RamBlockPlace {
  readonly name: string;
  readonly usedBytes: number;
  /** In QEMU's address space; below 2^53 on every machine there is. */
  readonly hostAddress: number;
}

/** Fails with QEMU_UNSUPPORTED when the addresses are not shown, with QMP_INVALID when a line cannot be read. */
export function parseRamBlocks(text: string): RamBlockPlace[] {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  const header = lines.shift() ?? "";
  if (!header.includes("HVA")) {
    throw new GodwitError(
      "QEMU_UNSUPPORTED",
      "this QEMU does not show where guest memory lies (info ramblock without HVA): QEMU 8.0 or newer is needed to " +
        "verify memory or to leave pages out",
    );
  }
  return lines.map(parseLine);
}

function parseLine(line: string): RamBlockPlace {
  // Names may contain blanks; the columns after it do not, but for the page size "4 KiB".
  const match =
    /^\s*(.+?)\s+\d+ \w+\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)/.exec(line);
  const name = match?.[1];
  const used = match?.[2];
  const address = match?.[3];
  if (name === undefined || used === undefined || address === undefined) {
    throw new GodwitError("QMP_INVALID", `"info ramblock" has a line that cannot be read: ${line}`);
  }
  return { name, usedBytes: Number.parseInt(used, 16), hostAddress: Number.parseInt(address, 16) };
}
