import type { Check, Doctor } from "../api/index.ts";
import { GodwitError } from "../base/index.ts";
import { act, clientFor, print, printJson, runScript, verb } from "./support/index.ts";

export function command() {
  return verb("doctor", "tell what this host can do", ["doctor", "doctor --json"])
    .description(
      "Tries what godwit needs on this host and tells what is missing and what to do about it. Asks the daemon when one " +
        "runs, as it may have other rights. Fails when something required is missing.",
    )
    .action((options) =>
      act(options, async () => {
        const doctor = await examine(options);
        if (options.json) printJson(doctor);
        else print(doctor.checks.map(checkText).join("\n"));
        if (!doctor.ok) process.exitCode = 1;
      }),
    );
}

async function examine(options: { socket?: string | undefined }): Promise<Doctor> {
  try {
    return await clientFor(options).getDoctor();
  } catch (error) {
    const absent = error instanceof GodwitError && error.details["daemon"] === "absent";
    if (!absent || options.socket !== undefined) throw error;
    const text = await runScript("src/daemon/doctor-main.ts", [], { capture: true });
    return JSON.parse(text) as Doctor;
  }
}

function checkText({ name, ok, required, detail, advice }: Check): string {
  const mark = ok ? "ok     " : required ? "MISSING" : "without";
  const lines = [`${mark}  ${name}: ${detail}`];
  if (!ok && advice !== undefined) lines.push(`         ${advice}`);
  return lines.join("\n");
}
