package kvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// DevicePath is the device node of KVM.
const DevicePath = "/dev/kvm"

// apiVersion is KVM_API_VERSION, the only one there has been since 2.6.22.
const apiVersion = 12

// System is an open /dev/kvm: what the host can do, and where VMs come from.
type System struct {
	f *os.File
}

// Open opens /dev/kvm and checks its API version. When the node is missing or
// may not be opened the error says what to do about it. The caller closes the
// System.
func Open() (*System, error) {
	fd, err := unix.Open(DevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(err, readCPUFlags())
	}
	s := &System{f: os.NewFile(uintptr(fd), DevicePath)}
	v, err := ioctlValue(s.f, getAPIVersion, 0)
	if err == nil && v != apiVersion {
		err = fmt.Errorf("%s: API version %d, need %d: %w", DevicePath, v, apiVersion, errors.ErrUnsupported)
	}
	if err != nil {
		s.f.Close()
		return nil, err
	}
	return s, nil
}

// cpuFlags says which virtualization extension the host's CPU shows.
type cpuFlags struct {
	svm, vmx bool
}

func readCPUFlags() cpuFlags {
	// unreadable is the same as no flag: the hint is then the general one
	b, _ := os.ReadFile("/proc/cpuinfo")
	return cpuFlags{
		svm: bytes.Contains(b, []byte(" svm ")),
		vmx: bytes.Contains(b, []byte(" vmx ")),
	}
}

// openError adds the hint for a failed open of /dev/kvm.
func openError(err error, cpu cpuFlags) error {
	perr := &os.PathError{Op: "open", Path: DevicePath, Err: err}
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (join the group that owns the node, usually with \"usermod -aG kvm USER\", and log in again)", perr)
	case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.ENODEV):
		return perr
	case cpu.svm:
		return fmt.Errorf("%w (load the module: modprobe kvm_amd; if that fails, turn on SVM in the firmware)", perr)
	case cpu.vmx:
		return fmt.Errorf("%w (load the module: modprobe kvm_intel; if that fails, turn on VT-x in the firmware)", perr)
	}
	return fmt.Errorf("%w (no hardware virtualization on this CPU: /proc/cpuinfo shows neither svm nor vmx)", perr)
}

// Close closes /dev/kvm. VMs made from it live on.
func (s *System) Close() error { return s.f.Close() }

// CheckExtension returns KVM_CHECK_EXTENSION's answer: 0 if the host lacks c,
// else 1 or the number that c's comment describes. Some answers differ per VM:
// see VM.CheckExtension.
func (s *System) CheckExtension(c Cap) (int, error) {
	return ioctlValue(s.f, checkExtension, uintptr(c))
}

// Require checks that the host has every one of caps. The error names all that
// are missing with the first kernel that has each, and matches
// errors.ErrUnsupported.
func (s *System) Require(caps ...Cap) error {
	var missing []Cap
	for _, c := range caps {
		n, err := s.CheckExtension(c)
		if err != nil {
			return err
		}
		if n == 0 {
			missing = append(missing, c)
		}
	}
	return missingCaps(s.f.Name(), missing)
}

// VCPUMmapSize returns the size in bytes of a vCPU's shared mapping,
// KVM_GET_VCPU_MMAP_SIZE.
func (s *System) VCPUMmapSize() (int, error) {
	return ioctlValue(s.f, getVCPUMmapSize, 0)
}

// SupportedCPUID returns the CPUID leaves that host and KVM can give a guest,
// KVM_GET_SUPPORTED_CPUID. They are raw material: topology leaves describe the
// CPU that the calling thread happened to run on.
func (s *System) SupportedCPUID() ([]CPUIDEntry, error) {
	arg := cpuid2{nent: maxCPUIDEntries}
	if _, err := ioctlPtr(s.f, getSupportedCPUID, &arg); err != nil {
		return nil, err
	}
	return append([]CPUIDEntry(nil), arg.entries[:min(arg.nent, maxCPUIDEntries)]...), nil
}

// MSRIndexList returns the MSRs that can be read and written on a vCPU,
// KVM_GET_MSR_INDEX_LIST.
func (s *System) MSRIndexList() ([]uint32, error) {
	return s.msrIndices(getMSRIndexList)
}

// MSRFeatureIndexList returns the MSRs that describe features of the host,
// KVM_GET_MSR_FEATURE_INDEX_LIST. Needs CapGetMSRFeatures.
func (s *System) MSRFeatureIndexList() ([]uint32, error) {
	return s.msrIndices(getMSRFeatureIndexList)
}

func (s *System) msrIndices(id requestID) ([]uint32, error) {
	arg := msrList{nmsrs: maxMSRIndices}
	if _, err := ioctlPtr(s.f, id, &arg); err != nil {
		return nil, err
	}
	return append([]uint32(nil), arg.indices[:min(arg.nmsrs, maxMSRIndices)]...), nil
}

// GetFeatureMSRs fills in the Data of entries, which name feature MSRs:
// KVM_GET_MSRS on /dev/kvm. Needs CapGetMSRFeatures.
func (s *System) GetFeatureMSRs(entries []MSREntry) error {
	return doMSRs(s.f, getMSRs, entries)
}

// CreateVM makes a VM without memory, vCPUs or interrupt controller,
// KVM_CREATE_VM. The caller closes it.
func (s *System) CreateVM() (*VM, error) {
	mmapSize, err := s.VCPUMmapSize()
	if err != nil {
		return nil, err
	}
	fd, err := ioctlValue(s.f, createVM, 0)
	if err != nil {
		return nil, err
	}
	vm := &VM{f: os.NewFile(uintptr(fd), "kvm-vm"), mmapSize: mmapSize}
	page, err := vm.CheckExtension(CapCoalescedMMIO)
	if err != nil {
		vm.f.Close()
		return nil, err
	}
	vm.coalescedPage = page
	return vm, nil
}
