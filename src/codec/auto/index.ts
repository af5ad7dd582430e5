export { AutoEncoder, type Candidate } from "./encoder.ts";
