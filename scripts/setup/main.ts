/**
 * Set-up of the machine's cache for tests, demo and bench: `node scripts/setup/main.ts <what>`.
 * Called by scripts/bootstrap.sh. Every step is cheap when already done and prints only when it works.
 */
import { buildAgent } from "../../guest/agent/build.ts";
import { buildGuestImage } from "../../guest/image/build.ts";
import { ensureJdk, jdkReleases } from "./jdk.ts";
import { ensureMachinePackages } from "./machine.ts";
import { ensureQemu, qemuReleases } from "./qemu.ts";
import { ensureServers } from "./servers.ts";
import { mainProgram, SetupError } from "./shell.ts";

type Step = () => Promise<unknown>;

const qemu: Step = () => ensureQemu(qemuReleases["qemu"]);
const agent: Step = () => buildAgent();
const smallGuest: Step = () => buildGuestImage("small");
const jdks = jdkReleases.map((release): [string, Step[]] => [
  `jdk-${release}`,
  [() => ensureJdk(release)],
]);

/** What each word sets up, in order. "check" needs node_modules alone, which are there by now. */
const plans: Readonly<Record<string, readonly Step[]>> = {
  check: [],
  test: [ensureMachinePackages, qemu, agent, smallGuest, () => ensureJdk(17)],
  demo: [ensureMachinePackages, qemu, () => buildGuestImage("java")],
  bench: [ensureMachinePackages, qemu, smallGuest],
  qemu: [qemu],
  agent: [ensureMachinePackages, agent],
  "qemu-7.2": [() => ensureQemu(qemuReleases["qemu-7.2"])],
  jdk: jdks.flatMap(([, steps]) => steps),
  ...Object.fromEntries(jdks),
  servers: [ensureServers],
  java: [ensureMachinePackages, qemu, () => buildGuestImage("java")],
};

await mainProgram("setup", async () => {
  const what = process.argv[2] ?? "test";
  const plan = plans[what];
  if (plan === undefined)
    throw new SetupError(`unknown word "${what}"; one of: ${Object.keys(plans).join(", ")}`);
  for (const step of plan) await step();
});
