package kvm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// doMSRs applies KVM_GET_MSRS or KVM_SET_MSRS to entries, in several calls if needed. The kernel
// stops at the first MSR it rejects and returns the number processed, without an error; doMSRs
// returns an error that names the MSR.
func doMSRs(f *os.File, id requestID, entries []MSREntry) error {
	var arg msrs
	for len(entries) > 0 {
		n := copy(arg.entries[:], entries)
		arg.nmsrs = uint32(n)
		done, err := ioctlPtr(f, id, &arg)
		if err != nil {
			return err
		}
		copy(entries, arg.entries[:min(done, n)])
		if done < n {
			err := &os.PathError{Op: requests[id].name, Path: f.Name(), Err: unix.EINVAL}
			return fmt.Errorf("MSR %#x: %w", entries[done].Index, err)
		}
		entries = entries[n:]
	}
	return nil
}
