package kvm

import (
	"sync/atomic"
	"unsafe"
)

// storeImmediateExit writes kvm_run.immediate_exit, the second byte of the
// mapping, while the vCPU's thread may be in KVM_RUN. The kernel reads the byte
// when it wants, so the store is atomic; it covers the aligned word around the
// byte, whose other bytes (request_interrupt_window and padding) are zero as
// long as the interrupt controller is the kernel's. run is page-aligned.
func storeImmediateExit(run []byte, on bool) {
	var word uint32
	if on {
		word = 1 << (8 * offImmediateExit)
	}
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&run[0])), word)
}

// wordAt returns the 32-bit word at off of a shared mapping for atomic access.
// off is a multiple of 4 and below len(b)-3; the mapping outlives the use.
func wordAt(b []byte, off int) *uint32 {
	return (*uint32)(unsafe.Pointer(&b[off : off+4][0]))
}
