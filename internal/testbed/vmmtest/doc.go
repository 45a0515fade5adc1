// Package vmmtest boots real guests from Go tests. The test binary is the
// guest's init: a scenario is a function that runs as process 1 in the guest,
// with the test that booted it on the other side of the console.
//
//	func TestMain(m *testing.M) { vmmtest.Main(m, scenarios) }
//
// The guest's kernels and modules are named by the environment, because a test
// runs where nothing can be fetched:
//
//	MINIVMM_GUESTS="6.12=IMAGE:MODULES 6.1=IMAGE:MODULES"
//
// [Need] decides whether a test may skip: what MINIVMM_REQUIRE lists ("kvm
// vhost-net vhost-scsi guests") is a failure when it is missing.
package vmmtest
