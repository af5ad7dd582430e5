export { type Advice, type AdviceInput, advise, type MethodAdvice } from "./advise.ts";
export {
  type DecoderTable,
  decodeMbPerSMax,
  type Measurable,
  type MeasureOptions,
  Measurement,
  type MethodFigures,
  measure,
  type OpenTrace,
  type PhaseFigures,
  type Survey,
  survey,
} from "./measure.ts";
export { makeDecoders } from "./decoders.ts";
export { type Method, methods } from "./methods.ts";
export { paretoFront, type Tradeoff } from "./pareto.ts";
export { type PicturePoint, type PictureText, picture } from "./picture.ts";
export { batchBytesTarget, rebatched } from "./rebatch.ts";
export {
  type Candidate,
  type Constraints,
  type Judgement,
  type Limit,
  type Recommendation,
  recommend,
} from "./recommend.ts";
