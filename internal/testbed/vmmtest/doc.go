// Package vmmtest boots real guests from Go tests. The test binary is the guest's init: a scenario
// is a function that runs as process 1 in the guest, and the test that booted the guest is at the
// other end of the console.
//
//	func TestMain(m *testing.M) { vmmtest.Main(m, scenarios) }
//
// The environment names the guest's kernels and modules, because tests run where nothing can be
// fetched:
//
//	MINIVMM_GUESTS="6.12=IMAGE:MODULES 6.1=IMAGE:MODULES"
//
// testenv.Need decides whether a test may be skipped: if a requirement in MINIVMM_REQUIRE ("kvm
// vhost-net vhost-scsi guests") is missing, the test fails.
package vmmtest
