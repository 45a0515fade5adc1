// Package proof holds the project to its first promise: the kernel's worker
// belongs to the VM. It has only tests, and benchmarks of workers.
//
// Each promise is a row of one table (promises_test.go): what is promised, how
// it is checked, and on which kernels it must hold. The test checks every row
// on the kernel it runs on, in each mode that kernel has: workers that are
// threads of the process (Linux 6.4 and later), the same kernel asked for
// kernel threads with VHOST_SET_FORK_FROM_OWNER 0, and an older kernel, which
// has nothing else. A promise that holds on a control where it should not fails
// the test like one that does not hold: then the check proves nothing.
//
// docs/workers.md shows the table as it was found. The test compares it with
// what it finds, and with -update writes it ("make docs-workers").
//
// The process that owns the worker stands for a VMM and is this binary run
// again, in a cgroup of its own (owner_test.go). The guest is the test: it
// shares the memory that holds the rings and drives them from outside
// (guest_test.go), so stopping, limiting and killing the owner leaves it alone.
package proof
