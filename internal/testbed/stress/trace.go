package stress

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// tracing is where tracefs is mounted.
const tracing = "/sys/kernel/tracing/"

// watchShutdowns makes the kernel record the shutdown of a guest CPU, which is the result of a
// triple fault; QEMU does not report it. Reason 8 is KVM_EXIT_SHUTDOWN, uapi/linux/kvm.h.
func watchShutdowns() error {
	for _, w := range []struct{ file, text string }{
		{"events/kvm/kvm_userspace_exit/filter", "reason == 8"},
		{"events/kvm/kvm_userspace_exit/enable", "1"},
	} {
		if err := os.WriteFile(tracing+w.file, []byte(w.text), 0); err != nil {
			return fmt.Errorf("stress: %w", err)
		}
	}
	return nil
}

// earlyEnd explains why a guest exited before its load ended.
func earlyEnd() error {
	trace, err := os.ReadFile(tracing + "trace")
	if err != nil {
		return fmt.Errorf("stress: the guest exited before its load ended: %w", err)
	}
	if bytes.Contains(trace, []byte("KVM_EXIT_SHUTDOWN")) {
		return errors.New("stress: triple fault in the guest")
	}
	return errors.New("stress: the guest exited before its load ended, and not by a triple fault")
}
