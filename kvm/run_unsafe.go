package kvm

import (
	"sync/atomic"
	"unsafe"
)

// storeImmediateExit writes kvm_run.immediate_exit, the second byte of the mapping, while the
// vCPU's thread may be in KVM_RUN. The kernel may read the byte at any time, so the store is
// atomic. The store covers the aligned 32-bit word that contains the byte. The word's other bytes
// (request_interrupt_window and padding) are zero as long as the interrupt controller is in the
// kernel. run is the mapping, which is page-aligned.
func storeImmediateExit(run []byte, on bool) {
	var word uint32
	if on {
		word = 1 << (8 * offImmediateExit)
	}
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&run[0])), word)
}
