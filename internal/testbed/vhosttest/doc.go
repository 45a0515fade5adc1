// Package vhosttest holds helpers that tests of the kernel's workers share: the kind of this
// kernel's workers, a tap, a cgroup, a loop device. From this module it imports only package
// testenv, so the tests of package vhost can use it too.
//
// Everything that it creates is removed at the end of the test that asked for it.
package vhosttest
