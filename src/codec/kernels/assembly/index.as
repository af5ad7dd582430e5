// The kernels' door: every export is one function of the interface in ../kernels.ts.
export { decode } from "./decode";
export { encode } from "./encode";
export { hashBegin, hashEnd, hashPageSums, hashUpdate, sketchPage } from "./hash";
export { drop } from "./history";
