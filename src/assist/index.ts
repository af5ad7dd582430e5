export { collectedSpanMsMin } from "./allocation.ts";
export { AgentClient } from "./agent/index.ts";
export { type GcWay, naturalMsMax, sendRunningMs } from "./hold-jvm.ts";
export type { JvmParticipant } from "./jvm.ts";
export type { DisposableKind } from "./participant.ts";
export {
  type Estimate,
  type GoingOn,
  predict,
  type Prediction,
  type PredictionInput,
  reserveMs,
} from "./predict.ts";
export type {
  ApplicationDowntime,
  AssistReport,
  AssistState,
  HoldReport,
  ParticipantReport,
} from "./report.ts";
export {
  AssistSession,
  scrubsEarly,
  scrubsPatiently,
  type DisposableFrames,
  type HoldOptions,
  type ScrubEarlyOptions,
} from "./session.ts";
export { prepareThaw } from "./thaw.ts";
