/** Where the files of one running VM are. All of them live in one folder, which belongs to one VM. */
import { join } from "node:path";
import { GodwitError } from "../../base/index.ts";

export interface RuntimePaths {
  readonly directory: string;
  /** The monitor for whoever watches over the VM (the daemon). */
  readonly qmpPath: string;
  /** The monitor for the migration process: QEMU serves one client per monitor. */
  readonly migrationQmpPath: string;
  readonly consolePath: string;
  readonly consoleLogPath: string;
  readonly agentPath: string;
  /** QEMU's stdout and stderr. */
  readonly logPath: string;
  readonly recordPath: string;
}

/** `sun_path` holds 108 bytes, one of them for the NUL. */
const socketPathBytesMax = 107;

/** Fails with CONFIG_INVALID when the folder's path is too long for the sockets in it. */
export function runtimePaths(directory: string): RuntimePaths {
  const paths = {
    directory,
    qmpPath: join(directory, "monitor.sock"),
    migrationQmpPath: join(directory, "migrate.sock"),
    consolePath: join(directory, "console.sock"),
    consoleLogPath: join(directory, "console.log"),
    agentPath: join(directory, "agent.sock"),
    logPath: join(directory, "qemu.log"),
    recordPath: join(directory, "vm.json"),
  };
  for (const path of [paths.qmpPath, paths.migrationQmpPath, paths.consolePath, paths.agentPath]) {
    checkSocketPath(path);
  }
  return paths;
}

/** Unix socket paths are limited to 107 bytes; fails with CONFIG_INVALID. */
export function checkSocketPath(path: string): void {
  const length = Buffer.byteLength(path);
  if (length <= socketPathBytesMax) return;
  throw new GodwitError(
    "CONFIG_INVALID",
    `${path} has ${length} bytes, but Linux limits the path of a unix socket to ${socketPathBytesMax}; ` +
      "choose a shorter runtime directory or VM name",
  );
}
