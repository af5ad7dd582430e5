/** Migration from QEMU to QEMU over TCP, driven by QMP as a management tool does: the ways that godwit is compared with. */
import { systemClock } from "../../src/io/index.ts";
import { SourceQemu } from "../../src/migrate/source/qemu.ts";
import type { MigrationCapability, QmpClient } from "../../src/qemu/qmp/index.ts";
import { type Case, type Measured, memoryIsEqual, passCount, type Stage } from "./case.ts";
import type { Guest } from "./guest.ts";

export interface QemuPlan {
  readonly name: string;
  readonly capabilities?: readonly MigrationCapability[];
  readonly parameters?: Readonly<Record<string, unknown>>;
  /** The VM changes sides before its memory has: it is started there by QEMU, and both are never stopped and equal. */
  readonly isPostcopy?: boolean;
  /** It ends by its own rule, however long that takes. */
  readonly isEndless?: boolean;
  /** Called before the migration begins; what it answers is called at the start of each pass but the first. */
  readonly prepare?: (source: Guest) => Promise<(pass: number) => Promise<void>>;
  /** What stands between the two QEMUs; undefined: nothing but the link. Ready when it is answered. */
  readonly between?: (stage: Stage) => Promise<Between>;
}

/** Where the source is to send to, and the destination to listen. */
export interface Between extends Disposable {
  readonly sourceUri: string;
  readonly destinationUri: string;
}

const port = 4444;
const endlessMs = 300_000;

export const qemuCases: readonly Case[] = [
  qemuCase({ name: "qemu" }),
  qemuCase({ name: "qemu-xbzrle", capabilities: ["xbzrle"] }),
  qemuCase({
    name: "qemu-multifd-zstd",
    capabilities: ["multifd"],
    parameters: { "multifd-compression": "zstd" },
  }),
  qemuCase({
    name: "qemu-postcopy",
    capabilities: ["postcopy-ram"],
    isPostcopy: true,
    prepare: postcopyAfterFirstPass,
  }),
  qemuCase({ name: "xen-rule", isEndless: true, prepare: xenRule }),
];

export function qemuCase(plan: QemuPlan): Case {
  const destination = plan.isPostcopy === true ? "running" : "waiting";
  return { name: plan.name, destination, run: (stage) => migrate(stage, plan) };
}

async function migrate(stage: Stage, plan: QemuPlan): Promise<Measured> {
  const { source, destination, link, settings } = stage;
  for (const { qmp } of [source, destination]) await configure(qmp, plan);
  await source.qmp.execute("migrate-set-parameters", {
    "downtime-limit": settings.downtimeLimitMs,
    "max-bandwidth": 0,
  });
  const passBegan = await plan.prepare?.(source);
  source.qmp.on("MIGRATION_PASS", ({ data }) => {
    if (data.pass > 1) passBegan?.(data.pass).catch((error: unknown) => warn(plan, error));
  });
  using between = await (plan.between ?? directly)(stage);
  await destination.qmp.execute("migrate-incoming", { uri: between.destinationUri });
  const wireBytes = await link.wireBytes();
  const startMs = systemClock.wallMs();
  await source.qmp.execute("migrate", { uri: between.sourceUri });
  const finished = await completed(stage, plan);
  const counts = {
    rounds: await passCount(stage),
    wireBytes: (await link.wireBytes()) - wireBytes,
  };
  if (finished) return { finished, ...counts, ...(await finish(stage, plan, startMs)) };
  const moments = { startMs, stopMs: undefined, resumeMs: undefined, heldMs: 0 };
  return { ...unfinished, ...counts, moments: { ...moments, endMs: systemClock.wallMs() } };
}

async function directly({ link }: Stage): Promise<Between> {
  const uri = `tcp:${link.address("b")}:${port}`;
  return { sourceUri: uri, destinationUri: uri, [Symbol.dispose]: () => {} };
}

const unfinished = {
  finished: false,
  setupMs: undefined,
  totalMs: undefined,
  downtimeMs: undefined,
  verified: undefined,
};

async function configure(qmp: QmpClient, plan: QemuPlan): Promise<void> {
  const names: readonly MigrationCapability[] = ["events", ...(plan.capabilities ?? [])];
  const capabilities = names.map((capability) => ({ capability, state: true }));
  await qmp.execute("migrate-set-capabilities", { capabilities });
  if (plan.parameters !== undefined) {
    await qmp.executeAny("migrate-set-parameters", plan.parameters);
  }
}

/** True when both sides say that it is done; false when it was given up after the bound. */
async function completed(stage: Stage, plan: QemuPlan): Promise<boolean> {
  const { source, destination, settings } = stage;
  const boundMs = plan.isEndless === true ? endlessMs : settings.boundMs;
  try {
    await source.occurrence("MIGRATION", "completed", boundMs);
  } catch (error) {
    if (source.found("STOP") === undefined) {
      await source.qmp.execute("migrate_cancel");
      await source.occurrence("MIGRATION", "cancelled");
      return false;
    }
    // Stopped already: what is left of it is its downtime, and counts.
    if (source.found("MIGRATION", "failed") !== undefined) throw error;
    await source.occurrence("MIGRATION", "completed");
  }
  await destination.occurrence("MIGRATION", "completed");
  return true;
}

async function finish(stage: Stage, plan: QemuPlan, startMs: number) {
  const { source, destination } = stage;
  const loadedMs = (await destination.occurrence("MIGRATION", "completed")).wallMs;
  const stopMs = (await source.occurrence("STOP")).wallMs;
  const setupMs = (await source.occurrence("MIGRATION", "active")).wallMs - startMs;
  if (plan.isPostcopy === true) {
    const resumeMs = (await destination.occurrence("RESUME")).wallMs;
    const endMs = Math.max(resumeMs, loadedMs);
    return {
      setupMs,
      totalMs: endMs - startMs,
      downtimeMs: resumeMs - stopMs,
      verified: undefined,
      moments: { startMs, stopMs, resumeMs, heldMs: 0, endMs },
    };
  }
  const verified = await memoryIsEqual(stage);
  const heldMs = systemClock.wallMs() - loadedMs;
  const startedMs = await destination.resume();
  const resumeMs = loadedMs + heldMs + startedMs;
  return {
    setupMs,
    totalMs: loadedMs - startMs + startedMs,
    downtimeMs: loadedMs - stopMs + startedMs,
    verified,
    moments: { startMs, stopMs, resumeMs, heldMs, endMs: resumeMs },
  };
}

/** As libvirt (--postcopy --postcopy-after-precopy) and Ganeti do. Where the first pass was enough there is none. */
async function postcopyAfterFirstPass({ qmp }: Guest): Promise<(pass: number) => Promise<void>> {
  let done = false;
  return async () => {
    if (done) return;
    done = true;
    const { status } = await qmp.execute("query-migrate");
    if (status === "active") await qmp.execute("migrate-start-postcopy");
  };
}

const xen = { passCountMax: 29, memoryFactorMax: 3, pageCountMin: 50 };

/** Xen's: never mind the downtime, stop after 29 rounds, or 3 x RAM, or when fewer than 50 pages are left. */
async function xenRule({ qmp }: Guest): Promise<(pass: number) => Promise<void>> {
  const qemu = new SourceQemu(qmp, systemClock);
  await qemu.configure();
  let done = false;
  return async (pass) => {
    // While it completes, QEMU does not answer for as long as that takes.
    if (done) return;
    const { ram } = await qemu.query();
    if (ram === undefined) return;
    done =
      pass > xen.passCountMax ||
      ram.transferred > ram.total * xen.memoryFactorMax ||
      ram.remaining < ram["page-size"] * xen.pageCountMin;
    if (done) await qemu.forceSwitchover();
  };
}

/** A command that comes just too late is refused: the migration shows what became of it. */
function warn(plan: QemuPlan, error: unknown): void {
  process.stderr.write(`${plan.name}: ${error instanceof Error ? error.message : String(error)}\n`);
}
