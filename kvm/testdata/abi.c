/*
 * Prints the part of the KVM ABI that the package declares, from the headers
 * of the machine it is compiled on: cc -o abi abi.c && ./abi > abi.golden
 */
#include <stddef.h>
#include <stdio.h>
#include <linux/kvm.h>

#define R(name) printf("request " #name " %#lx\n", (unsigned long)(name));
#define C(name) printf("const " #name " %lu\n", (unsigned long)(name));
#define S(type) printf("struct " #type " %zu\n", sizeof(struct type));
#define F(type, field) \
	printf("field " #type "." #field " %zu %zu\n", \
	       offsetof(struct type, field), sizeof(((struct type *)0)->field));

int main(void)
{
	R(KVM_GET_API_VERSION) R(KVM_CREATE_VM)
	R(KVM_CHECK_EXTENSION) R(KVM_GET_VCPU_MMAP_SIZE)
	R(KVM_GET_SUPPORTED_CPUID)
	R(KVM_CREATE_VCPU) R(KVM_SET_USER_MEMORY_REGION) R(KVM_SET_TSS_ADDR)
	R(KVM_SET_IDENTITY_MAP_ADDR) R(KVM_CREATE_IRQCHIP) R(KVM_IRQ_LINE)
	R(KVM_SET_GSI_ROUTING) R(KVM_IRQFD) R(KVM_IOEVENTFD)
	R(KVM_GET_TSC_KHZ) R(KVM_GET_STATS_FD)
	R(KVM_RUN) R(KVM_GET_REGS) R(KVM_SET_REGS) R(KVM_GET_SREGS)
	R(KVM_SET_SREGS) R(KVM_SET_MSRS) R(KVM_SET_CPUID2)

	C(KVM_CAP_IRQCHIP) C(KVM_CAP_USER_MEMORY) C(KVM_CAP_SET_TSS_ADDR)
	C(KVM_CAP_EXT_CPUID)
	C(KVM_CAP_IRQ_ROUTING)
	C(KVM_CAP_IRQFD) C(KVM_CAP_IOEVENTFD) C(KVM_CAP_SET_IDENTITY_MAP_ADDR)
	C(KVM_CAP_MAX_VCPUS) C(KVM_CAP_READONLY_MEM) C(KVM_CAP_MULTI_ADDRESS_SPACE)
	C(KVM_CAP_IOEVENTFD_ANY_LENGTH)
	C(KVM_CAP_IMMEDIATE_EXIT)

	C(KVM_API_VERSION) C(KVM_MEM_READONLY)
	C(KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
	C(KVM_IRQ_ROUTING_IRQCHIP) C(KVM_IRQ_ROUTING_MSI)
	C(KVM_IRQCHIP_IOAPIC)
	C(KVM_IRQFD_FLAG_DEASSIGN)
	C(KVM_IOEVENTFD_FLAG_PIO)
	C(KVM_IOEVENTFD_FLAG_DEASSIGN)
	C(KVM_EXIT_UNKNOWN) C(KVM_EXIT_IO) C(KVM_EXIT_HLT) C(KVM_EXIT_MMIO)
	C(KVM_EXIT_SHUTDOWN) C(KVM_EXIT_FAIL_ENTRY) C(KVM_EXIT_INTR)
	C(KVM_EXIT_INTERNAL_ERROR)
	C(KVM_EXIT_IO_OUT)
	C(KVM_INTERNAL_ERROR_EMULATION) C(KVM_INTERNAL_ERROR_SIMUL_EX)
	C(KVM_INTERNAL_ERROR_DELIVERY_EV)
	C(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)

	S(kvm_userspace_memory_region)
	F(kvm_userspace_memory_region, slot) F(kvm_userspace_memory_region, flags)
	F(kvm_userspace_memory_region, guest_phys_addr)
	F(kvm_userspace_memory_region, memory_size)
	F(kvm_userspace_memory_region, userspace_addr)
	S(kvm_irq_level) F(kvm_irq_level, irq) F(kvm_irq_level, level)
	S(kvm_irq_routing) F(kvm_irq_routing, nr)
	S(kvm_irq_routing_entry) F(kvm_irq_routing_entry, gsi)
	F(kvm_irq_routing_entry, type) F(kvm_irq_routing_entry, flags)
	F(kvm_irq_routing_entry, u)
	S(kvm_irqfd) F(kvm_irqfd, fd) F(kvm_irqfd, gsi) F(kvm_irqfd, flags)
	F(kvm_irqfd, resamplefd)
	S(kvm_ioeventfd) F(kvm_ioeventfd, datamatch) F(kvm_ioeventfd, addr)
	F(kvm_ioeventfd, len) F(kvm_ioeventfd, fd) F(kvm_ioeventfd, flags)
	S(kvm_regs) F(kvm_regs, rax) F(kvm_regs, rbx) F(kvm_regs, rcx)
	F(kvm_regs, rdx) F(kvm_regs, rsi) F(kvm_regs, rdi) F(kvm_regs, rsp)
	F(kvm_regs, rbp) F(kvm_regs, r8) F(kvm_regs, r9) F(kvm_regs, r10)
	F(kvm_regs, r11) F(kvm_regs, r12) F(kvm_regs, r13) F(kvm_regs, r14)
	F(kvm_regs, r15) F(kvm_regs, rip) F(kvm_regs, rflags)
	S(kvm_segment) F(kvm_segment, base) F(kvm_segment, limit)
	F(kvm_segment, selector) F(kvm_segment, type) F(kvm_segment, present)
	F(kvm_segment, dpl) F(kvm_segment, db) F(kvm_segment, s)
	F(kvm_segment, l) F(kvm_segment, g) F(kvm_segment, avl)
	F(kvm_segment, unusable)
	S(kvm_dtable) F(kvm_dtable, base) F(kvm_dtable, limit)
	S(kvm_sregs) F(kvm_sregs, cs) F(kvm_sregs, ds) F(kvm_sregs, es)
	F(kvm_sregs, fs) F(kvm_sregs, gs) F(kvm_sregs, ss) F(kvm_sregs, tr)
	F(kvm_sregs, ldt) F(kvm_sregs, gdt) F(kvm_sregs, idt)
	F(kvm_sregs, cr0) F(kvm_sregs, cr2) F(kvm_sregs, cr3)
	F(kvm_sregs, cr4) F(kvm_sregs, cr8) F(kvm_sregs, efer)
	F(kvm_sregs, apic_base) F(kvm_sregs, interrupt_bitmap)
	S(kvm_cpuid_entry2) F(kvm_cpuid_entry2, function)
	F(kvm_cpuid_entry2, index) F(kvm_cpuid_entry2, flags)
	F(kvm_cpuid_entry2, eax) F(kvm_cpuid_entry2, ebx)
	F(kvm_cpuid_entry2, ecx) F(kvm_cpuid_entry2, edx)
	S(kvm_cpuid2) F(kvm_cpuid2, nent)
	S(kvm_msr_entry) F(kvm_msr_entry, index) F(kvm_msr_entry, data)
	S(kvm_msrs) F(kvm_msrs, nmsrs)

	F(kvm_run, immediate_exit) F(kvm_run, exit_reason) F(kvm_run, padding)
	F(kvm_run, io.direction) F(kvm_run, io.size) F(kvm_run, io.port)
	F(kvm_run, io.count) F(kvm_run, io.data_offset)
	F(kvm_run, mmio.phys_addr) F(kvm_run, mmio.data) F(kvm_run, mmio.len)
	F(kvm_run, mmio.is_write)
	F(kvm_run, fail_entry.hardware_entry_failure_reason)
	F(kvm_run, fail_entry.cpu)
	F(kvm_run, internal.suberror) F(kvm_run, internal.ndata)
	F(kvm_run, internal.data)
	F(kvm_run, emulation_failure.flags)
	F(kvm_run, emulation_failure.insn_size)
	F(kvm_run, emulation_failure.insn_bytes)
	F(kvm_stats_header, name_size) F(kvm_stats_header, num_desc)
	F(kvm_stats_header, desc_offset) F(kvm_stats_header, data_offset)
	S(kvm_stats_header)
	F(kvm_stats_desc, size) F(kvm_stats_desc, offset)
	S(kvm_stats_desc)
	return 0;
}
