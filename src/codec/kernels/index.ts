export {
  createKernels,
  createMemory,
  type KernelBuild,
  type KernelHost,
  type Kernels,
} from "./kernels.ts";
export { layout } from "./layout.ts";
