/**
 * Writes an initramfs: the "newc" cpio form, read by the kernel (Documentation/driver-api/early-userspace/
 * buffer-format.rst). Uncompressed, to spare TCG the unpacking.
 *
 * Per entry: "070701", 13 numbers of 8 hex digits, name with a zero, padding to 4 bytes, content,
 * padding to 4 bytes. The last entry is called "TRAILER!!!".
 */

export type CpioEntry = {
  /** Path without a leading slash. */
  readonly path: string;
  /** File type and permission bits, as in stat. */
  readonly mode: number;
  readonly content: Uint8Array;
  /** Major and minor number of a device node. */
  readonly device?: readonly [number, number];
};

export const folderEntry = (path: string): CpioEntry => ({
  path,
  mode: 0o040755,
  content: new Uint8Array(),
});
export const fileEntry = (path: string, content: Uint8Array, mode = 0o755): CpioEntry => ({
  path,
  mode: 0o100000 | mode,
  content,
});
export const linkEntry = (path: string, target: string): CpioEntry => ({
  path,
  mode: 0o120777,
  content: Buffer.from(target),
});
export const characterDeviceEntry = (path: string, major: number, minor: number): CpioEntry => ({
  path,
  mode: 0o020600,
  content: new Uint8Array(),
  device: [major, minor],
});

/** The same entries always give the same bytes: owner root, date zero. */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const trailer: CpioEntry = { path: "TRAILER!!!", mode: 0, content: new Uint8Array() };
  return Buffer.concat(
    [...entries, trailer].flatMap((entry, index) => entryBytes(entry, index + 1)),
  );
}

function entryBytes(entry: CpioEntry, inode: number): Uint8Array[] {
  const name = Buffer.from(`${entry.path}\0`);
  const [major, minor] = entry.device ?? [0, 0];
  const numbers = [
    inode,
    entry.mode,
    0,
    0,
    1,
    0,
    entry.content.length,
    0,
    0,
    major,
    minor,
    name.length,
    0,
  ];
  const header = Buffer.from(
    `070701${numbers.map((n) => n.toString(16).padStart(8, "0")).join("")}`,
  );
  return [
    header,
    name,
    padding(header.length + name.length),
    entry.content,
    padding(entry.content.length),
  ];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}
