package kvm

import (
	"errors"
	"fmt"
	"strings"
)

// Cap is a KVM_CAP_* number: an optional part of the ABI.
type Cap uint32

// The capabilities that minivmm checks.
const (
	CapIRQChip            Cap = 0   // KVM_CAP_IRQCHIP
	CapUserMemory         Cap = 3   // KVM_CAP_USER_MEMORY
	CapSetTSSAddr         Cap = 4   // KVM_CAP_SET_TSS_ADDR
	CapExtCPUID           Cap = 7   // KVM_CAP_EXT_CPUID
	CapIRQRouting         Cap = 25  // KVM_CAP_IRQ_ROUTING: returns the number of routes
	CapIRQFD              Cap = 32  // KVM_CAP_IRQFD
	CapIOEventFD          Cap = 36  // KVM_CAP_IOEVENTFD
	CapSetIdentityMapAddr Cap = 37  // KVM_CAP_SET_IDENTITY_MAP_ADDR
	CapMaxVCPUs           Cap = 66  // KVM_CAP_MAX_VCPUS: returns the number
	CapReadonlyMem        Cap = 81  // KVM_CAP_READONLY_MEM
	CapMultiAddressSpace  Cap = 118 // KVM_CAP_MULTI_ADDRESS_SPACE: returns the number
	CapIOEventFDAnyLength Cap = 122 // KVM_CAP_IOEVENTFD_ANY_LENGTH
	CapImmediateExit      Cap = 136 // KVM_CAP_IMMEDIATE_EXIT
)

// capInfo is a capability's C name and the first kernel that has it.
type capInfo struct {
	cap   Cap
	name  string
	since string
}

var capabilities = [...]capInfo{
	{CapIRQChip, "KVM_CAP_IRQCHIP", "2.6.24"},
	{CapUserMemory, "KVM_CAP_USER_MEMORY", "2.6.25"},
	{CapSetTSSAddr, "KVM_CAP_SET_TSS_ADDR", "2.6.25"},
	{CapExtCPUID, "KVM_CAP_EXT_CPUID", "2.6.25"},
	{CapIRQRouting, "KVM_CAP_IRQ_ROUTING", "2.6.30"},
	{CapIRQFD, "KVM_CAP_IRQFD", "2.6.32"},
	{CapIOEventFD, "KVM_CAP_IOEVENTFD", "2.6.32"},
	{CapSetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "2.6.32"},
	{CapMaxVCPUs, "KVM_CAP_MAX_VCPUS", "3.2"},
	{CapReadonlyMem, "KVM_CAP_READONLY_MEM", "3.7"},
	{CapMultiAddressSpace, "KVM_CAP_MULTI_ADDRESS_SPACE", "4.2"},
	{CapIOEventFDAnyLength, "KVM_CAP_IOEVENTFD_ANY_LENGTH", "4.4"},
	{CapImmediateExit, "KVM_CAP_IMMEDIATE_EXIT", "4.11"},
}

// String is the capability's C name.
func (c Cap) String() string {
	if info, ok := c.info(); ok {
		return info.name
	}
	return fmt.Sprintf("KVM_CAP_%d", uint32(c))
}

func (c Cap) info() (capInfo, bool) {
	for _, info := range capabilities {
		if info.cap == c {
			return info, true
		}
	}
	return capInfo{}, false
}

// missingCaps returns an error that names the missing capabilities, or nil if none is missing.
func missingCaps(path string, missing []Cap) error {
	if len(missing) == 0 {
		return nil
	}
	names := make([]string, len(missing))
	for i, c := range missing {
		names[i] = c.String()
		if info, ok := c.info(); ok {
			names[i] += " (Linux " + info.since + ")"
		}
	}
	return fmt.Errorf("%s lacks %s: %w", path, strings.Join(names, ", "), errors.ErrUnsupported)
}
