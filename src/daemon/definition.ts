/** VM definitions as they cross between godwits, and what they ask of the host they come to. */
import { access, constants } from "node:fs/promises";
import { freemem } from "node:os";
import { GodwitError } from "../base/index.ts";
import {
  checkDefinition,
  type LaunchedVm,
  pinnedDefinition,
  type VmDefinition,
} from "../qemu/launch/index.ts";

const mebibyte = 2 ** 20;

/** For the destination: as one would write it, everything decided at launch written out. */
export function definitionToSend(vm: LaunchedVm): Record<string, unknown> {
  const definition = pinnedDefinition(vm);
  return { ...definition, memory: `${definition.memory / mebibyte}M` };
}

/**
 * From a peer. Its choice of a program to run is not ours, and arguments for QEMU can name programs as well (`-incoming exec:`,
 * scripts of taps). Fails with DEFINITION_INVALID or INSECURE.
 */
export function definitionFromPeer(
  value: Record<string, unknown>,
  { allowExtraArguments }: { allowExtraArguments: boolean },
): VmDefinition {
  const { binary: _, ...definition } = checkDefinition(value);
  if (definition.extraArguments.length === 0 || allowExtraArguments) return definition;
  throw new GodwitError(
    "INSECURE",
    "the VM's definition has extraArguments, with which a peer could run any program at the destination host; " +
      "if its daemon trusts its peers so far, start it with --allow-extra-arguments, or start the VM without extraArguments",
  );
}

/** Fails with NOT_FOUND or CONFLICT, in words that the source's user can act on. */
export async function checkFits(definition: VmDefinition): Promise<void> {
  const missing = await missingFiles(definition);
  if (missing.length > 0) {
    throw new GodwitError(
      "NOT_FOUND",
      `the destination host does not have ${missing.join(", ")}; ` +
        "copy or share it there, under the same path",
    );
  }
  const free = freemem();
  if (definition.memory > free) {
    const [wanted, there] = [definition.memory, free].map((bytes) => Math.round(bytes / mebibyte));
    throw new GodwitError(
      "CONFLICT",
      `the destination host has ${there} MiB of memory free, and the VM needs ${wanted} MiB`,
    );
  }
}

async function missingFiles({ kernel, initrd, disks }: VmDefinition): Promise<string[]> {
  const wanted: [what: string, path: string | undefined][] = [
    ["kernel", kernel],
    ["initrd", initrd],
    ...disks.map((disk, index): [string, string | undefined] => [
      `disk ${index}`,
      disk.file ?? disk.nbd?.socket,
    ]),
  ];
  const missing: string[] = [];
  for (const [what, path] of wanted) {
    if (path !== undefined && !(await exists(path))) missing.push(`${path} (${what})`);
  }
  return missing;
}

function exists(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}

/** What QEMU says when it cannot be what the source is, in words that say what to do. */
export function explainStart(error: unknown, definition: VmDefinition): unknown {
  if (!(error instanceof GodwitError) || error.code !== "QEMU_START") return error;
  if (/unsupported machine type/i.test(error.message)) {
    return new GodwitError(
      "QEMU_UNSUPPORTED",
      `the QEMU of the destination host does not know the machine type ${definition.machine}; ` +
        "install the source's version of QEMU there, or a newer one",
      { cause: error },
    );
  }
  if (definition.accelerator === "kvm" && /kvm/i.test(error.message)) {
    return new GodwitError(
      "QEMU_UNSUPPORTED",
      "the VM runs under KVM, which does not work at the destination host; " +
        "`godwit doctor` there says why",
      { cause: error },
    );
  }
  return error;
}
