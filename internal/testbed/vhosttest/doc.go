// Package vhosttest holds what tests of the kernel's workers share: what this
// kernel's workers are, a tap, a cgroup, threads ahead of a limit. It imports
// nothing of the module, so package vhost's own tests use it too.
//
// Everything it makes goes away with the test that asked for it.
package vhosttest
