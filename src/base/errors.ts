/**
 * Every failure of the world carries one of these codes; users and tests rely on them, so they are never renamed.
 * The text says what was found and what to do; `details` holds the values for programs.
 */
export const errorCodes = {
  // Bytes from outside
  STREAM_INVALID: "a migration stream broke QEMU's format",
  STREAM_UNSUPPORTED: "a migration stream uses a feature that godwit does not carry",
  FRAME_INVALID: "a godwit frame broke the format",
  FRAME_CHECKSUM: "a godwit frame arrived damaged",
  TRACE_INVALID: "a trace file is damaged, or is none",
  PROTOCOL_VERSION: "the two godwits have no protocol version in common",
  PROTOCOL_ORDER: "a message came at a time when it has no meaning",
  // Peers and time
  PEER_LOST: "the connection to the other godwit ended",
  PEER_FAILED: "the other godwit reported a failure",
  TIMEOUT: "a deadline passed",
  CANCELLED: "the user cancelled",
  // QEMU
  QMP_ERROR: "QEMU refused a command",
  QMP_INVALID: "QEMU's monitor sent something that is not QMP",
  QMP_CLOSED: "QEMU's monitor closed",
  QEMU_START: "QEMU did not start",
  QEMU_EXITED: "QEMU ended",
  QEMU_UNSUPPORTED: "this QEMU cannot do what is asked",
  MIGRATION_FAILED: "QEMU reported that the migration failed",
  VERIFY_MISMATCH: "memory differs between source and destination",
  MEMORY_READ: "guest memory could not be read",
  // The guest's agent and applications
  AGENT_UNREACHABLE: "the port of the guest's agent cannot be opened",
  AGENT_SILENT: "the guest's agent did not answer in time",
  AGENT_LOST: "the port of the guest's agent closed",
  AGENT_FAILED: "the guest's agent could not do what it was asked",
  ASSIST_UNSUPPORTED: "an application cannot be assisted, and travels as ordinary memory",
  ASSIST_REQUIRED: "assistance was required and cannot be had",
  // Configuration and use
  DEFINITION_INVALID: "a VM definition is not valid",
  CONFIG_INVALID: "the configuration is not valid",
  NOT_FOUND: "no such thing",
  CONFLICT: "the request does not fit the present state",
  INSECURE: "refused because it would not be secure",
  TLS: "the TLS credentials do not work",
  IO: "a file or socket operation failed",
} as const;

export type ErrorCode = keyof typeof errorCodes;

export class GodwitError extends Error {
  override name = "GodwitError";
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: Record<string, unknown> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }
}

/** The form in which an error crosses a process or network border. */
export interface ErrorRecord {
  readonly code: ErrorCode | "INTERNAL";
  readonly message: string;
}

/** Never throws; anything that is not a GodwitError is INTERNAL. */
export function toErrorRecord(error: unknown): ErrorRecord {
  if (error instanceof GodwitError) return { code: error.code, message: error.message };
  return { code: "INTERNAL", message: error instanceof Error ? error.message : String(error) };
}

/** The inverse of `toErrorRecord`. Unknown codes (a newer peer's) become PEER_FAILED. */
export function fromErrorRecord(record: ErrorRecord): GodwitError {
  const code = Object.hasOwn(errorCodes, record.code) ? (record.code as ErrorCode) : "PEER_FAILED";
  return new GodwitError(code, record.message);
}
