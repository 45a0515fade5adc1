// Package tracepoint counts how often a thread passes one of the kernel's tracepoints, with chosen values in its fields.
//
// What it is: perf_event_open(2) with PERF_TYPE_TRACEPOINT, counting only: no samples, no buffer, nothing that wakes
// anybody up. What it is not: a reader of traces, or of other processes.
//
// Rights. The number of a tracepoint is in tracefs (Documentation/trace/events.rst), which usually only root can read. A
// count of what happens inside the kernel takes CAP_PERFMON, or a kernel.perf_event_paranoid of 1 or less
// (perf_allow_kernel in kernel/events/core.c; Debian's own level 3 refuses everything without CAP_PERFMON).
//
// Cost. While a thread has a counter, the kernel switches the counter whenever it switches the thread. The first counter of a
// tracepoint on a host turns the tracepoint on for everybody, and the end of the last one turns it off and waits for a
// grace period: who opens and closes counters often keeps one more, which is there throughout.
//
// Concurrency: a [Point] may be used by any goroutine, a [Counter] by one at a time. The caller closes counters.
package tracepoint
