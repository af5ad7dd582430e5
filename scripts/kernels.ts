/**
 * Builds src/codec/kernels/kernels.wasm from the AssemblyScript beside it. The result is committed; a test builds it again
 * and compares.
 *
 *   node scripts/kernels.ts
 *
 * The sources are called .as so that TypeScript's own tools, which know no u32, leave them alone.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const folder = join(import.meta.dirname, "../src/codec/kernels");

/** What is used of the compiler. Its own types declare another `console` and `Set` for the whole program. */
interface Compiler {
  main(
    args: readonly string[],
    files: {
      readFile(name: string): string | null;
      writeFile(name: string, contents: Uint8Array | string): void;
      listFiles(): null;
    },
  ): Promise<{ error: Error | null; stderr: { toString(): string } }>;
}
const compilerName: string = "assemblyscript/asc";

const options = [
  "assembly/index.ts --outFile kernels.wasm --runtime stub --use abort=",
  "--importMemory --initialMemory 1 --noExportMemory",
  "--enable simd -O3 --converge --noAssert",
]
  .join(" ")
  .split(" ");

/** Answers the module's bytes; fails with the compiler's complaints. */
export async function buildKernels(): Promise<Uint8Array> {
  const compiler = (await import(compilerName)) as Compiler;
  let built: Uint8Array | undefined;
  const { error, stderr } = await compiler.main(options, {
    readFile: (name) => {
      try {
        return readFileSync(join(folder, name.replace(/\.ts$/, ".as")), "utf8");
      } catch {
        return null;
      }
    },
    writeFile: (name, contents) => {
      if (name === "kernels.wasm") built = contents as Uint8Array;
    },
    listFiles: () => null,
  });
  if (error === null && built !== undefined) return built;
  throw new Error(`the kernels do not compile: ${error?.message}\n${stderr.toString()}`);
}

if (import.meta.main) {
  const bytes = await buildKernels();
  writeFileSync(join(folder, "kernels.wasm"), bytes);
  console.log(`kernels.wasm: ${bytes.length} bytes`);
}
