# The guest of the captures: a 64 KiB BIOS image that never ends and keeps dirtying memory, so that a migration has
# rounds. It is loaded with -bios on any machine, needs no disk and is the same bytes every time.
#
#   0x100000  160 pages  written once, every page with other contents
#   0x1a0000   32 pages  one word of every second page rewritten all the time (dirty again in each round)
#   0x1c0000   16 pages  filled and zeroed by turns (page record in one round, zero record in another)
#
# Built by capture.ts:  cc -c -m32 guest.S && ld -m elf_i386 -Ttext 0 --oformat binary
	.code16
	.text
	.globl	_start
_start:
	cli
	lgdtl	%cs:gdt_pointer
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$8, $(0xf0000 + protected)

	.code32
protected:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	cld

	movl	$0x100000, %edi
fill:	movl	%edi, %eax
	orl	$0x5a0, %eax
	movl	$1024, %ecx
	rep stosl
	cmpl	$0x1a0000, %edi
	jb	fill

	xorl	%ebx, %ebx
again:	incl	%ebx
	movl	$0x1a0000, %edi
dirty:	movl	%ebx, 0x7c0(%edi)
	addl	$0x2000, %edi
	cmpl	$0x1c0000, %edi
	jb	dirty

	movl	%ebx, %eax
	shrl	$4, %eax
	andl	$1, %eax
	negl	%eax			# all ones or zero, changing every 16 turns
	movl	$0x1c0000, %edi
	movl	$(16 * 1024), %ecx
	rep stosl

	movl	$100000, %ecx		# a fraction of a millisecond under TCG
wait:	decl	%ecx
	jnz	wait
	jmp	again

	.balign	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	# code, flat; "accessed" is set, the table lies in ROM
	.quad	0x00cf93000000ffff	# data, flat
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	0xf0000 + gdt

	.org	0xfff0
	.code16
	ljmpw	$0xf000, $_start
	.org	0x10000
