/** What is captured: how QEMU is started, what is set before `migrate`, and what a reader must say about the stream. */
export interface Variant {
  readonly name: string;
  /** Machine options; RAM is 4 MiB in a shared file, so that it can be compared afterwards. */
  readonly machine: string;
  readonly arguments?: readonly string[];
  readonly capabilities?: readonly string[];
  readonly parameters?: Readonly<Record<string, unknown>>;
  /** Commands before `migrate`. */
  readonly before?: readonly { readonly execute: string; readonly arguments: object }[];
  /** QEMU releases (as `7` or `10`) that have all this; default both. */
  readonly only?: 7 | 10;
  /** Passes over memory before the last one; 1 lets QEMU finish at once. */
  readonly rounds?: number;
  /** The guest never runs. */
  readonly stopped?: boolean;
  /** Present when the stream must be refused: error code, and a text that the message contains. */
  readonly refused?: { readonly code: string; readonly names: string };
  /**
   * Full pages travel on other connections and no byte of this one tells: a reader must accept it, and whoever migrates
   * must know by other means (capability off, one connection, counts equal to query-migrate's).
   */
  readonly incomplete?: boolean;
  /** Refused streams only: bytes kept, counted from the start. Default 65,536. */
  readonly keepBytes?: number;
  /** Main RAM is split or named by the variant's own arguments. */
  readonly ownMemory?: boolean;
  /** A raw disk file of 64 KiB is made; `$disk` in arguments and commands is its path. */
  readonly disk?: boolean;
}

const words = (text: string) => text.split(" ");
const unsupported = (names: string) => ({ code: "STREAM_UNSUPPORTED", names });
const numa = (name: string, node: number) => [
  "-object",
  `memory-backend-ram,id=${name},size=2M`,
  "-numa",
  `node,nodeid=${node},memdev=${name}`,
];
const diskArguments = ["-blockdev", "driver=file,node-name=d0,filename=$disk"];
const diskDevice = ["-device", "virtio-blk-pci,drive=d0"];
const bitmap = {
  execute: "block-dirty-bitmap-add",
  arguments: { node: "d0", name: "changed" },
};

export const variants: readonly Variant[] = [
  { name: "pc", machine: "pc", rounds: 3 },
  { name: "pc-return-path", machine: "pc", capabilities: ["return-path"], rounds: 3 },
  { name: "q35-7.2", machine: "pc-q35-7.2", rounds: 4 },
  {
    name: "q35-7.2-return-path",
    machine: "pc-q35-7.2",
    capabilities: ["return-path"],
    rounds: 3,
  },
  { name: "q35-10.0", machine: "pc-q35-10.0", rounds: 4, only: 10 },
  {
    name: "q35-10.0-return-path",
    machine: "pc-q35-10.0",
    capabilities: ["return-path"],
    rounds: 3,
    only: 10,
  },
  { name: "microvm", machine: "microvm", rounds: 3 },
  {
    name: "many-blocks",
    machine: "q35",
    arguments: [
      ...numa("m0", 0),
      ...numa("a-block-with-a-longer.name_0", 1),
      ...words("-device VGA,vgamem_mb=1 -device e1000,romfile=$rom"),
      ...words("-device virtio-net-pci,romfile=$rom"),
    ],
    ownMemory: true,
    rounds: 3,
  },
  {
    // Addresses beyond 32 bits; all zero pages, so small.
    name: "5-gib",
    machine: "q35",
    arguments: words("-m 5G"),
    ownMemory: true,
    rounds: 1,
    only: 10,
  },
  { name: "one-pass", machine: "q35", rounds: 1 },
  { name: "stopped-guest", machine: "q35", rounds: 1, stopped: true },
  { name: "no-description", machine: "q35,suppress-vmdesc=on", rounds: 1 },
  {
    name: "uuid",
    machine: "q35",
    arguments: ["-uuid", "6f1b1e0c-6d1a-4a53-9a55-1d8f0f2a7c11"],
    capabilities: ["validate-uuid"],
    rounds: 1,
  },
  {
    name: "zero-pages-in-full",
    machine: "q35",
    parameters: { "zero-page-detection": "none" },
    rounds: 1,
    only: 10,
  },
  {
    // Only zero pages, and nothing that says so: see `incomplete`.
    name: "multifd-main-channel",
    machine: "pc-q35-7.2",
    capabilities: ["multifd"],
    rounds: 2,
    incomplete: true,
  },
  {
    name: "refused-multifd-10.0",
    machine: "pc-q35-10.0",
    capabilities: ["multifd"],
    rounds: 2,
    refused: unsupported("multifd"),
    only: 10,
  },
  {
    name: "refused-xbzrle",
    machine: "q35",
    capabilities: ["xbzrle"],
    rounds: 4,
    keepBytes: 2 ** 22,
    // 7.2 loses dirty pages under software emulation: hardly any page is sent a third time, as XBZRLE needs.
    only: 10,
    refused: unsupported("xbzrle"),
  },
  {
    name: "refused-postcopy-ram",
    machine: "q35",
    capabilities: ["return-path", "postcopy-ram"],
    refused: unsupported("POSTCOPY_ADVISE"),
  },
  {
    name: "refused-ignore-shared",
    machine: "q35",
    capabilities: ["x-ignore-shared"],
    refused: unsupported("x-ignore-shared"),
  },
  {
    name: "refused-dirty-bitmaps",
    machine: "q35",
    disk: true,
    arguments: [...diskArguments, ...diskDevice],
    before: [bitmap],
    capabilities: ["dirty-bitmaps"],
    refused: unsupported("dirty-bitmap"),
  },
  {
    name: "refused-colo",
    machine: "q35",
    capabilities: ["x-colo"],
    rounds: 1,
    refused: unsupported("ENABLE_COLO"),
  },
  {
    name: "refused-compress",
    machine: "q35",
    capabilities: ["compress"],
    refused: unsupported("compress"),
    only: 7,
  },
  {
    name: "refused-block",
    machine: "q35",
    disk: true,
    arguments: [...diskArguments, ...diskDevice],
    capabilities: ["block"],
    refused: unsupported('"block"'),
    only: 7,
  },
  {
    name: "refused-virtio-mem",
    machine: "q35",
    arguments: [
      ...words("-m 4M,slots=2,maxmem=1G -object memory-backend-ram,id=vm0,size=128M"),
      ...words("-device virtio-mem-pci,id=vm,memdev=vm0,requested-size=0"),
    ],
    refused: unsupported("before the end of RAM"),
    only: 10,
  },
];
