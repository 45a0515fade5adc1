// Package msicount counts the message-signalled interrupts that a thread sends to KVM's guests, by message.
//
// What it is: a program of some 20 instructions (bpf(2)) at KVM's tracepoint kvm_msi_set_irq (arch/x86/kvm/irq_comm.c), which
// has a message's address and data, and a hash map of what is counted. The tracepoint is passed in the thread that
// signals an irqfd, once for each signal. What it is not: a tracer; nothing is recorded but the counts.
//
// Rights. Root, or CAP_BPF and CAP_PERFMON, in the host's user namespace. Nothing has to be mounted or set up.
//
// Cost. The program runs whenever any guest of the host gets an MSI from an irqfd, while at least one [Counters] is open. A disk's
// reads, one at a time, took as many instructions with it as without, within 1 % of 70 000. A perf event for each count, which the
// kernel switches with its thread, made them 12 500 more.
//
// Concurrency: [Counters] and what it made may be used by one goroutine at a time. The caller closes both.
package msicount
