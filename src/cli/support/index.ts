/** What the verbs share. */
export { adviceText } from "./advice.ts";
export {
  act,
  type CommonOptions,
  clientFor,
  local,
  option,
  print,
  printJson,
  targetFor,
  verb,
} from "./command.ts";
export { exitCodes, reportError, SilentFailure, UsageError } from "./errors.ts";
export { followToEnd } from "./follow.ts";
export { migrationOptions, parseTarget, requestOptions } from "./migration-options.ts";
export { phaseText, progressLine } from "./progress.ts";
export { createScreen, type Screen } from "./screen.ts";
export { runScript } from "./script.ts";
export { reportText, succeeded, summary } from "./summary.ts";
export { facts, table } from "./table.ts";
export {
  formatBytes,
  formatCount,
  formatDuration,
  formatRate,
  parseBandwidth,
  parseBytes,
  parseDuration,
  parseShare,
} from "./units.ts";
