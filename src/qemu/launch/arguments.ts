/**
 * A definition → QEMU's command line. Pure, and deterministic in everything that the guest sees or that the migration
 * stream names: QEMU refuses a stream whose devices are not its own.
 *
 * PCI slots on the root bus (q35: pcie.0, pc: pci.0), the same whatever else the VM has:
 *
 *     02 virtio-serial   03 balloon   04 rng   08-0f disks   10-17 network cards
 *
 * A microvm has no PCI: its virtio-mmio slots are given in the order of the command line.
 */
import { assert, unreachable } from "../../base/index.ts";
import { diskFormat, networkMac, vmUuid } from "./definition.ts";
import type { RuntimePaths } from "./paths.ts";
import type { DiskDefinition, NetworkDefinition, VmDefinition } from "./schema.ts";

export interface ArgumentOptions {
  /** Resolved: never auto. */
  readonly accelerator: "kvm" | "tcg";
  /** `incoming`: paused, waiting for `migrate-incoming`. */
  readonly mode: "fresh" | "incoming";
  /** Do not run the guest until `cont`; an incoming VM never runs by itself before its migration. */
  readonly paused?: boolean;
  /** Decides which options QEMU knows. */
  readonly qemuVersion: readonly [major: number, minor: number];
}

const slots = { serial: 0x02, balloon: 0x03, rng: 0x04, diskFirst: 0x08, networkFirst: 0x10 };

export function qemuArguments(
  definition: VmDefinition,
  paths: RuntimePaths,
  options: ArgumentOptions,
): string[] {
  return [
    ...machine(definition, options),
    ...boot(definition),
    ...monitor("monitor", paths.qmpPath),
    ...monitor("migrate", paths.migrationQmpPath),
    ...serialConsole(paths),
    ...(definition.agent ? agent(definition, paths) : []),
    ...balloon(definition),
    ...(definition.rng ? rng(definition) : []),
    ...definition.disks.flatMap((disk, index) => diskArguments(definition, disk, index)),
    ...definition.networks.flatMap((network, index) =>
      networkArguments(definition, network, index, options),
    ),
    ...(options.mode === "incoming" || options.paused === true ? ["-S"] : []),
    ...(options.mode === "incoming" ? ["-incoming", "defer"] : []),
    ...definition.extraArguments,
  ];
}

/**
 * - kvm: `host` is fast and hides what cannot migrate (migratable=on is QEMU's default), but QEMU does not check that the
 *   destination's CPU has the same features: whoever migrates must.
 * - tcg: without erms and fsrm, for which a guest kernel copies memory by `rep movsb`: emulated one byte at a time.
 */
export function cpuModel(definition: VmDefinition, accelerator: "kvm" | "tcg"): string {
  return definition.cpu ?? (accelerator === "kvm" ? "host" : "max,-erms,-fsrm");
}

function machine(definition: VmDefinition, options: ArgumentOptions): string[] {
  const mebibytes = definition.memory / 2 ** 20;
  assert(Number.isInteger(mebibytes), "memory is a whole number of mebibytes");
  return [
    ["-name", `guest=${definition.name},debug-threads=on`],
    ["-machine", definition.machine],
    ["-accel", options.accelerator],
    ["-cpu", cpuModel(definition, options.accelerator)],
    ["-smp", `cpus=${definition.vcpus}`],
    ["-m", `${mebibytes}M`],
    ["-uuid", vmUuid(definition)],
    // Nothing that this file does not name, and nothing from the host's configuration.
    ["-nodefaults", "-no-user-config", "-display", "none", "-msg", "timestamp=on"],
  ].flat();
}

function boot({ kernel, initrd, commandLine }: VmDefinition): string[] {
  return [
    ...(kernel === undefined ? [] : ["-kernel", kernel]),
    ...(initrd === undefined ? [] : ["-initrd", initrd]),
    ...(commandLine === undefined ? [] : ["-append", commandLine]),
  ];
}

function monitor(id: string, path: string): string[] {
  return ["-chardev", socketChardev(id, path), "-mon", `chardev=${id},mode=control`];
}

/** The log is written whether or not somebody is connected. */
function serialConsole(paths: RuntimePaths): string[] {
  const log = `logfile=${escape(paths.consoleLogPath)},logappend=on`;
  const chardev = `${socketChardev("console", paths.consolePath)},${log}`;
  return ["-chardev", chardev, "-serial", "chardev:console"];
}

function agent(definition: VmDefinition, paths: RuntimePaths): string[] {
  return [
    ...device(definition, "virtio-serial", "id=serial0", slots.serial),
    "-chardev",
    socketChardev("agent", paths.agentPath),
    "-device",
    "virtserialport,id=agent0,bus=serial0.0,nr=1,chardev=agent,name=org.godwit.agent.0",
  ];
}

function balloon(definition: VmDefinition): string[] {
  if (definition.balloon === false) return [];
  const plain = definition.balloon === true || !definition.balloon.freePageHint;
  const properties = plain
    ? "id=balloon0"
    : "id=balloon0,free-page-hint=on,iothread=balloon-thread0";
  return [
    // The guest's hints are taken from their queue by a thread of their own, which QEMU insists on.
    ...(plain ? [] : ["-object", "iothread,id=balloon-thread0"]),
    ...device(definition, "virtio-balloon", properties, slots.balloon),
  ];
}

function rng(definition: VmDefinition): string[] {
  return [
    "-object",
    "rng-random,id=rng0,filename=/dev/urandom",
    ...device(definition, "virtio-rng", "id=virtio-rng0,rng=rng0", slots.rng),
  ];
}

function diskArguments(definition: VmDefinition, disk: DiskDefinition, index: number): string[] {
  const id = `disk${index}`;
  const node = {
    driver: diskFormat(disk),
    "node-name": id,
    ...accessOf(disk),
    file: backend(disk),
  };
  const blockdev = ["-blockdev", JSON.stringify(node)];
  const writeCache = ["writeback", "none", "unsafe"].includes(disk.cache) ? "on" : "off";
  const properties = `id=virtio-${id},drive=${id},write-cache=${writeCache}`;
  switch (disk.interface) {
    case "virtio-blk":
      return [
        ...blockdev,
        ...device(definition, "virtio-blk", properties, slots.diskFirst + index),
      ];
    case "ide":
      return [...blockdev, "-device", `ide-hd,id=ide-${id},drive=${id},write-cache=${writeCache}`];
    default:
      return unreachable(disk.interface);
  }
}

function backend(disk: DiskDefinition): object {
  const access = accessOf(disk);
  if (disk.nbd !== undefined) {
    // Without a delay, requests in flight fail as soon as the server goes away.
    const server = { type: "unix", path: disk.nbd.socket };
    return { driver: "nbd", server, export: disk.nbd.export, "reconnect-delay": 30, ...access };
  }
  assert(disk.file !== undefined, "a disk has a file or an NBD server");
  const driver = disk.file.startsWith("/dev/") ? "host_device" : "file";
  return { driver, filename: disk.file, ...access };
}

/** Every layer is told, as QEMU passes these on only along `-drive`. */
function accessOf(disk: DiskDefinition): object {
  const direct = disk.cache === "none" || disk.cache === "directsync";
  return {
    "read-only": disk.readOnly,
    cache: { direct, "no-flush": disk.cache === "unsafe" },
    discard: "unmap",
  };
}

function networkArguments(
  definition: VmDefinition,
  network: NetworkDefinition,
  index: number,
  options: ArgumentOptions,
): string[] {
  const id = `net${index}`;
  const properties = `id=virtio-${id},netdev=${id},mac=${networkMac(definition, index)}`;
  return [
    "-netdev",
    netdev(network, id, options),
    // No boot ROM: it is a RAM block whose size depends on the host's ROM files.
    ...device(
      definition,
      "virtio-net",
      `${properties}${romFile(definition)}`,
      slots.networkFirst + index,
    ),
  ];
}

function netdev(network: NetworkDefinition, id: string, options: ArgumentOptions): string {
  switch (network.type) {
    case "user":
      return [
        `user,id=${id}`,
        ...network.forwards.map(
          ({ protocol, hostAddress, hostPort, guestPort }) =>
            `hostfwd=${protocol}:${escape(hostAddress)}:${hostPort}-:${guestPort}`,
        ),
      ].join(",");
    case "tap":
      return `tap,id=${id},ifname=${escape(network.interface)},script=no,downscript=no`;
    case "bridge":
      return `bridge,id=${id},br=${escape(network.bridge)}`;
    case "stream":
      return `stream,id=${id},server=off,addr.type=unix,addr.path=${escape(network.socket)}${reconnect(options)}`;
    default:
      return unreachable(network);
  }
}

/** QEMU 7.2 cannot reconnect: the listener must be there first, and for ever. */
function reconnect({ qemuVersion: [major, minor] }: ArgumentOptions): string {
  if (major > 9 || (major === 9 && minor >= 2)) return ",reconnect-ms=200";
  return major >= 8 ? ",reconnect=1" : "";
}

function romFile(definition: VmDefinition): string {
  return rootBus(definition) === undefined ? "" : ",romfile=";
}

/** A virtio device on the machine's kind of bus. */
function device(
  definition: VmDefinition,
  name: string,
  properties: string,
  slot: number,
): string[] {
  const bus = rootBus(definition);
  if (bus === undefined) return ["-device", `${name}-device,${properties}`];
  return ["-device", `${name}-pci,${properties},bus=${bus},addr=0x${slot.toString(16)}`];
}

function rootBus({ machine: type }: VmDefinition): string | undefined {
  if (type === "microvm") return undefined;
  return type.includes("q35") ? "pcie.0" : "pci.0";
}

function socketChardev(id: string, path: string): string {
  return `socket,id=${id},path=${escape(path)},server=on,wait=off`;
}

/** QEMU splits options at commas; a doubled one is a literal one. */
function escape(value: string): string {
  return value.replaceAll(",", ",,");
}
