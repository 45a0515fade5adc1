package kvm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// doMSRs runs KVM_GET_MSRS or KVM_SET_MSRS over entries, in as many calls as
// it takes. The kernel stops at the first MSR it refuses and returns how many
// it did, which is no error of the call: here it is one, naming the MSR.
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
