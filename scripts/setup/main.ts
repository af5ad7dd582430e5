/**
 * Set-up of the machine's cache for tests, demo and bench: `node scripts/setup/main.ts <what>`.
 * Called by scripts/bootstrap.sh. Every step is cheap when already done and prints only when it works.
 */
import { buildGuestImage } from "../../guest/image/build.ts";
import { ensureMachinePackages } from "./machine.ts";
import { ensureQemu, qemuReleases } from "./qemu.ts";
import { mainProgram, SetupError } from "./shell.ts";

type Step = () => Promise<unknown>;

const qemu: Step = () => ensureQemu(qemuReleases["qemu"]);
const smallGuest: Step = () => buildGuestImage("small");

/** What each word sets up, in order. "check" needs node_modules alone, which are there by now. */
const plans: Readonly<Record<string, readonly Step[]>> = {
  check: [],
  test: [ensureMachinePackages, qemu, smallGuest],
  demo: [ensureMachinePackages, qemu, smallGuest],
  bench: [ensureMachinePackages, qemu, smallGuest],
  qemu: [qemu],
  "qemu-7.2": [() => ensureQemu(qemuReleases["qemu-7.2"])],
  java: [ensureMachinePackages, qemu, () => buildGuestImage("java")],
};

await mainProgram("setup", async () => {
  const what = process.argv[2] ?? "test";
  const plan = plans[what];
  if (plan === undefined)
    throw new SetupError(`unknown word "${what}"; one of: ${Object.keys(plans).join(", ")}`);
  for (const step of plan) await step();
});
