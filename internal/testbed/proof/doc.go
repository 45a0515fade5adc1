// Package proof checks the project's first promise: the kernel's worker belongs to the VM. It
// contains only tests, and benchmarks of workers.
//
// Each promise is a row of one table (promises_test.go). The row contains the promise, its check,
// and the kernels on which it must hold. The test checks every row on the running kernel, in each
// mode of that kernel. There are three modes: workers that are threads of the process (Linux 6.4
// and later), kernel threads on a kernel that also offers the former (VHOST_SET_FORK_FROM_OWNER 0),
// and kernel threads on an older kernel, which offers nothing else. If a promise holds in a mode in
// which it should not, the test fails as well, because then the check proves nothing.
//
// docs/workers.md shows the table with the results. The test compares the page with its own
// results, and, with the flag -update ("make docs-workers"), writes the page.
//
// The process that owns the worker stands for a VMM. This process is the test binary, run again in
// a cgroup of its own (owner_test.go). The test plays the guest: it shares the memory that contains
// the rings and drives the rings from outside (guest_test.go), so stopping, limiting or killing the
// owner does not affect the guest.
package proof
