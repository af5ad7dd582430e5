export { AssertionError, assert, unreachable } from "./assert.ts";
export { PageBitmap } from "./bitmap.ts";
export {
  type ErrorCode,
  type ErrorRecord,
  errorCodes,
  fromErrorRecord,
  GodwitError,
  toErrorRecord,
} from "./errors.ts";
export { Prng } from "./prng.ts";
