package kvm

import (
	"errors"
	"fmt"
	"strings"
)

// Cap is a capability, an optional part of KVM's ABI.
type Cap struct {
	number uintptr // KVM_CAP_*
	name   string  // the C name
	since  string  // the first kernel version that has the capability
}

// The capabilities that minivmm checks.
var (
	CapIRQChip            = Cap{0, "KVM_CAP_IRQCHIP", "2.6.24"}
	CapUserMemory         = Cap{3, "KVM_CAP_USER_MEMORY", "2.6.25"}
	CapSetTSSAddr         = Cap{4, "KVM_CAP_SET_TSS_ADDR", "2.6.25"}
	CapExtCPUID           = Cap{7, "KVM_CAP_EXT_CPUID", "2.6.25"}
	CapIRQRouting         = Cap{25, "KVM_CAP_IRQ_ROUTING", "2.6.30"} // returns the number of routes
	CapIRQFD              = Cap{32, "KVM_CAP_IRQFD", "2.6.32"}
	CapIOEventFD          = Cap{36, "KVM_CAP_IOEVENTFD", "2.6.32"}
	CapSetIdentityMapAddr = Cap{37, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "2.6.32"}
	CapMaxVCPUs           = Cap{66, "KVM_CAP_MAX_VCPUS", "3.2"} // returns the number
	CapReadonlyMem        = Cap{81, "KVM_CAP_READONLY_MEM", "3.7"}
	CapMultiAddressSpace  = Cap{118, "KVM_CAP_MULTI_ADDRESS_SPACE", "4.2"} // returns the number
	CapIOEventFDAnyLength = Cap{122, "KVM_CAP_IOEVENTFD_ANY_LENGTH", "4.4"}
	CapImmediateExit      = Cap{136, "KVM_CAP_IMMEDIATE_EXIT", "4.11"}
)

// missingCaps returns an error that names the missing capabilities, or nil if none is missing.
func missingCaps(path string, missing []Cap) error {
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, c := range missing {
		names = append(names, fmt.Sprintf("%s (Linux %s)", c.name, c.since))
	}
	return fmt.Errorf("%s lacks %s: %w", path, strings.Join(names, ", "), errors.ErrUnsupported)
}
