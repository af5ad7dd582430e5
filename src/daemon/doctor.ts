/** What this host can do: the probes of src/qemu/probe. */
import type { Doctor } from "../api/index.ts";
import { probeHost } from "../qemu/probe/index.ts";

export async function examine(runtimeDirectory: string): Promise<Doctor> {
  const checks = await probeHost({ runtimeDirectory });
  return { ok: checks.every((check) => check.ok || !check.required), checks };
}
