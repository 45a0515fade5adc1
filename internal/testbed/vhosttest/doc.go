// Package vhosttest holds helpers that tests of the kernel's workers share: the kind of this
// kernel's workers, a tap, a cgroup, a loop device. Of this module's packages, vhosttest imports
// only testenv, so the tests of package vhost can use it too.
//
// Everything that the package creates is removed at the end of the test that asked for it.
package vhosttest
