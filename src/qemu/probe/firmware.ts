/**
 * A firmware of 256 bytes of code that goes from reset to 64-bit mode, does 40 million instructions of work in memory, and
 * ends QEMU through isa-debug-exit. Work, because a /dev/kvm may be there, and execute, and yet be no virtualisation: one
 * that was seen (kvm-pvm inside a cloud VM) emulates three million instructions a second in the kernel, and no Linux boots
 * in any useful time. Hardware needs about 0.03 s for this, QEMU's own emulation about 0.2 s.
 *
 * In GNU assembly, linked at 0xff00 of the segment 0xffff0000 (GDT: code 32, data, code 64):
 *
 *     start:  lgdtl %cs:gdtr; mov $0x21,%eax; mov %eax,%cr0; ljmpl $0x08,$protected         # 16 bit
 *     protected:  mov $0x10,%eax; mov %eax,%ds; mov %eax,%es; mov %eax,%ss                   # 32 bit
 *         mov $0x1000,%edi; mov $0x1000,%ecx; xor %eax,%eax; rep stosl                       # page tables:
 *         movl $0x2003,0x1000; movl $0x3003,0x2000; movl $0x4003,0x2018                      # PML4, PDPT
 *         movl $0x83,0x3000; movl $0xffe00083,0x4ff8                                         # first and last 2 MiB
 *         mov $0x20,%eax; mov %eax,%cr4; mov $0x1000,%eax; mov %eax,%cr3                     # PAE
 *         mov $0xc0000080,%ecx; rdmsr; or $0x100,%eax; wrmsr                                 # EFER.LME
 *         mov $0x80000021,%eax; mov %eax,%cr0; ljmp $0x18,$long                              # PG
 *     long:  mov $0x8000,%esp; mov $10000000,%rcx                                            # 64 bit
 *     1:  push %rcx; pop %rax; dec %rcx; jnz 1b
 *         mov $0x2a,%al; out %al,$0xf4
 *     2:  cli; hlt; jmp 2b
 *     gdt, gdtr; at 0xfff0, where an x86 CPU begins:  jmp start
 */
const firmwareBytes = 64 * 1024;

const code =
  "2e660f0116d0ff66b8210000000f22c066ea18ffffff0800b8100000008ed88ec08ed0bf00100000b90010000031c0f3" +
  "abc7050010000003200000c7050020000003300000c7051820000003400000c7050030000083000000c705f84f000083" +
  "00e0ffb8200000000f22e0b8001000000f22d8b9800000c00f320d000100000f30b8210000800f22c0ea90ffffff1800" +
  "bc0080000048c7c1809698005158" +
  "48ffc975f9b02ae6f4faf4ebfc8db40000900000000000000000ffff0000009bcf00ffff00000093cf00ffff0000009b" +
  "af001f00b0ffffff0000000000000000000000000000000000000000000000000000e90dff00000000000000000000000000";

/** isa-debug-exit ends QEMU with (value << 1) | 1. */
export const firmwareExitCode = (0x2a << 1) | 1;

export function firmwareImage(): Uint8Array {
  const image = Buffer.alloc(firmwareBytes);
  Buffer.from(code, "hex").copy(image, firmwareBytes - code.length / 2);
  return image;
}
