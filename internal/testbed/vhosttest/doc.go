// Package vhosttest holds helpers that tests of the kernel's workers share: the kind of this
// kernel's workers, a tap, a cgroup, a loop device. It imports nothing of the module except the test
// environment, so package vhost's own tests can use it too.
//
// Everything that it creates is removed at the end of the test that asked for it.
package vhosttest
