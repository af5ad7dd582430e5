/** `godwit doctor` without a daemon: one JSON object on stdout. */
import { defaultRuntimeDirectory } from "../api/index.ts";
import { examine } from "./doctor.ts";

const runtimeDirectory = defaultRuntimeDirectory(process.env, process.getuid?.() ?? 0);
process.stdout.write(`${JSON.stringify(await examine(runtimeDirectory))}\n`);
