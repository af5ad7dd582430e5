/**
 * HotSpot describes itself: for its serviceability agent it exports tables of its own classes' fields (offset, or address
 * if static), of type sizes and of constants, all by name. So nothing about a release's memory layout is written down in
 * this folder, only names.
 *
 * A table is an array of structures whose size and offsets are exported too; it ends with an entry without a name.
 */
import type { MemoryRange } from "../ranges.ts";
import { readVariables } from "./elf.ts";
import { type Mapping, readableEnd } from "./maps.ts";
import { type BoundedMemory, isAddress, unsupported, type View } from "./memory.ts";

/** Largest of releases 8 to 25: 837 fields, 40 KiB. */
const tableBytesMax = 96 << 10;
const nameBytesMax = 120;
/** Strings nearer than this are read in one piece: a range costs about as much as this many bytes. */
const gapBytes = 2048;

interface TableShape {
  readonly variable: string;
  readonly prefix: string;
  /** Names of the offsets, without prefix and "Offset". */
  readonly columns: readonly string[];
}

const shapes = {
  fields: {
    variable: "gHotSpotVMStructs",
    prefix: "gHotSpotVMStructEntry",
    columns: ["TypeName", "FieldName", "IsStatic", "Offset", "Address"],
  },
  types: {
    variable: "gHotSpotVMTypes",
    prefix: "gHotSpotVMTypeEntry",
    columns: ["TypeName", "Size"],
  },
  constants: {
    variable: "gHotSpotVMIntConstants",
    prefix: "gHotSpotVMIntConstantEntry",
    columns: ["Name", "Value"],
  },
} as const satisfies Record<string, TableShape>;

function variablesOf({ variable, prefix, columns }: TableShape): string[] {
  return [variable, `${prefix}ArrayStride`, ...columns.map((name) => `${prefix}${name}Offset`)];
}

/** One table in memory: where its rows are, how far apart, and where in a row a column is. */
interface Table {
  readonly rows: View;
  readonly stride: number;
  readonly rowCount: number;
  readonly offsets: readonly number[];
}

export interface Field {
  readonly isStatic: boolean;
  /** Inside its object if not static, else 0. */
  readonly offset: number;
  /** Of the variable if static, else 0. */
  readonly address: number;
}

export class VmStructs {
  readonly #fields: ReadonlyMap<string, Field>;
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #constants: ReadonlyMap<string, number>;

  constructor(
    fields: ReadonlyMap<string, Field>,
    sizes: ReadonlyMap<string, number>,
    constants: ReadonlyMap<string, number>,
  ) {
    this.#fields = fields;
    this.#sizes = sizes;
    this.#constants = constants;
  }

  /** The offset of the first of these fields that this release has ("Type::field"). */
  offset(...names: readonly string[]): number {
    const found = this.optionalOffset(...names);
    if (found === undefined) throw missing("field", names);
    return found;
  }

  optionalOffset(...names: readonly string[]): number | undefined {
    return this.#first(names, false)?.offset;
  }

  /** The address of the first of these static fields that this release has. */
  address(...names: readonly string[]): number {
    const found = this.optionalAddress(...names);
    if (found === undefined) throw missing("variable", names);
    return found;
  }

  optionalAddress(...names: readonly string[]): number | undefined {
    return this.#first(names, true)?.address;
  }

  /** Bytes of an object of this type. */
  size(...names: readonly string[]): number {
    for (const name of names) {
      const size = this.#sizes.get(name);
      if (size !== undefined) return size;
    }
    throw missing("type", names);
  }

  constant(...names: readonly string[]): number {
    for (const name of names) {
      const value = this.#constants.get(name);
      if (value !== undefined) return value;
    }
    throw missing("constant", names);
  }

  optionalConstant(name: string): number | undefined {
    return this.#constants.get(name);
  }

  /** All names, for people. */
  names(): string[] {
    return [...this.#fields.keys()];
  }

  #first(names: readonly string[], isStatic: boolean): Field | undefined {
    for (const name of names) {
      const field = this.#fields.get(name);
      if (field?.isStatic === isStatic) return field;
    }
    return undefined;
  }
}

function missing(what: string, names: readonly string[]): Error {
  return unsupported(`has no ${what} ${names.join(" or ")} in its tables`);
}

/** Eight round trips. */
export async function readVmStructs(
  memory: BoundedMemory,
  mappings: readonly Mapping[],
  libraryStart: number,
): Promise<VmStructs> {
  const names = Object.values(shapes).flatMap(variablesOf);
  const values = await readVariables(memory, mappings, libraryStart, names);
  const absent = names.find((name) => !values.has(name));
  if (absent !== undefined)
    throw unsupported(`has a libjvm.so without ${absent}: it is not HotSpot`);
  const kinds = [shapes.fields, shapes.types, shapes.constants];
  const windows = await memory.read(
    kinds.map(({ variable }) => tableWindow(mappings, values.get(variable) ?? 0)),
  );
  const [fields, types, constants] = kinds.map((shape, index) =>
    parseTable(windows[index] as View, shape, values),
  ) as [Table, Table, Table];
  const pointers = [
    ...column(fields, 0),
    ...column(fields, 1),
    ...column(types, 0),
    ...column(constants, 0),
  ];
  const text = await readStrings(memory, mappings, pointers);
  return new VmStructs(
    parseFields(fields, text),
    parseValues(types, 8, text),
    parseValues(constants, 4, text),
  );
}

function tableWindow(mappings: readonly Mapping[], address: number): MemoryRange {
  const bytes = readableEnd(mappings, address, tableBytesMax) - address;
  if (!isAddress(address) || bytes <= 0)
    throw unsupported("has tables outside of its memory; it may not have started yet");
  return { address, bytes };
}

function parseTable(rows: View, shape: TableShape, values: ReadonlyMap<string, number>): Table {
  const stride = values.get(`${shape.prefix}ArrayStride`) ?? 0;
  const offsets = shape.columns.map((name) => values.get(`${shape.prefix}${name}Offset`) ?? 0);
  if (!(stride >= 16 && stride <= 256) || offsets.some((offset) => !(offset + 8 <= stride)))
    throw unsupported(
      `has a table ${shape.variable} of a strange shape (${stride} bytes an entry)`,
    );
  const nameAt = offsets[0] ?? 0;
  let rowCount = 0;
  while (rows.u64(rowCount * stride + nameAt) !== 0) {
    rowCount++;
    if ((rowCount + 1) * stride > rows.length)
      throw unsupported(`has a table ${shape.variable} without an end`);
  }
  return { rows, stride, rowCount, offsets };
}

function column(table: Table, index: number): number[] {
  const offset = table.offsets[index] ?? 0;
  return Array.from({ length: table.rowCount }, (_, row) =>
    table.rows.u64(row * table.stride + offset),
  );
}

type Text = (address: number) => string | undefined;

function parseFields(table: Table, text: Text): Map<string, Field> {
  const fields = new Map<string, Field>();
  const [, , staticAt = 0, offsetAt = 0, addressAt = 0] = table.offsets;
  const typeNames = column(table, 0);
  for (const [row, nameAddress] of column(table, 1).entries()) {
    const key = `${text(typeNames[row] ?? 0)}::${text(nameAddress)}`;
    const at = row * table.stride;
    const isStatic = table.rows.u32(at + staticAt) !== 0;
    const offset = isStatic ? 0 : table.rows.u64(at + offsetAt);
    // No object that is read here is larger; a wild offset would only waste requests.
    if (offset > 1 << 20 || fields.has(key)) continue;
    fields.set(key, { isStatic, offset, address: isStatic ? table.rows.u64(at + addressAt) : 0 });
  }
  return fields;
}

function parseValues(table: Table, bytes: number, text: Text): Map<string, number> {
  const values = new Map<string, number>();
  const valueAt = table.offsets[1] ?? 0;
  for (const [row, nameAddress] of column(table, 0).entries()) {
    const name = text(nameAddress);
    if (name !== undefined) values.set(name, table.rows.word(row * table.stride + valueAt, bytes));
  }
  return values;
}

/** C strings at many addresses in one round trip: those near each other share a range. */
export async function readStrings(
  memory: BoundedMemory,
  mappings: readonly Mapping[],
  pointers: readonly number[],
): Promise<Text> {
  const clusters = stringClusters(pointers, mappings);
  const views = await memory.read(clusters);
  return (address) => {
    let low = 0;
    let high = views.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((views[middle] as View).address <= address) low = middle;
      else high = middle - 1;
    }
    const view = views[low];
    return view?.text(address - view.address, nameBytesMax);
  };
}

function stringClusters(pointers: readonly number[], mappings: readonly Mapping[]): MemoryRange[] {
  const clusters: { address: number; bytes: number }[] = [];
  for (const pointer of [...new Set(pointers)].filter(isAddress).toSorted((a, b) => a - b)) {
    const last = clusters.at(-1);
    if (last !== undefined && pointer + 1 <= last.address + last.bytes + gapBytes)
      last.bytes = pointer + nameBytesMax + 1 - last.address;
    else clusters.push({ address: pointer, bytes: nameBytesMax + 1 });
  }
  return clusters.flatMap(({ address, bytes }) => {
    const readable = readableEnd(mappings, address, bytes) - address;
    return readable > 0 ? [{ address, bytes: readable }] : [];
  });
}
