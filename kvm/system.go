package kvm

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
)

// DevicePath is the device node of KVM.
const DevicePath = "/dev/kvm"

// apiVersion is KVM_API_VERSION, unchanged since Linux 2.6.22.
const apiVersion = 12

// System is an open /dev/kvm. It reports the capabilities of the host and creates VMs.
type System struct {
	f *os.File
}

// Open opens /dev/kvm and checks its API version. If the node is missing or access is denied, the
// error says how to fix it. The caller must call Close.
func Open() (*System, error) {
	fd, err := unix.Open(DevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		cpuinfo, _ := os.ReadFile("/proc/cpuinfo") // if this read fails, openError gives the general hint
		return nil, openError(err, string(cpuinfo))
	}
	s := &System{f: os.NewFile(uintptr(fd), DevicePath)}
	v, err := ioctl.Value(s.f, getAPIVersion, 0)
	if err == nil && v != apiVersion {
		err = fmt.Errorf("%s: API version %d, need %d: %w", DevicePath, v, apiVersion, errors.ErrUnsupported)
	}
	if err != nil {
		s.f.Close()
		return nil, err
	}
	return s, nil
}

// openError adds a hint to the error of opening /dev/kvm. cpuinfo shows which virtualization
// extension the host's CPU has.
func openError(err error, cpuinfo string) error {
	perr := &os.PathError{Op: "open", Path: DevicePath, Err: err}
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (add the user to the group of the device node, usually \"usermod -aG kvm USER\", and log in again)", perr)
	case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.ENODEV):
		return perr
	case strings.Contains(cpuinfo, " svm "):
		return fmt.Errorf("%w (load the module: modprobe kvm_amd; if that fails, turn on SVM in the firmware)", perr)
	case strings.Contains(cpuinfo, " vmx "):
		return fmt.Errorf("%w (load the module: modprobe kvm_intel; if that fails, turn on VT-x in the firmware)", perr)
	}
	return fmt.Errorf("%w (no hardware virtualization on this CPU: /proc/cpuinfo shows neither svm nor vmx)", perr)
}

// Close closes /dev/kvm. VMs created from it stay alive.
func (s *System) Close() error { return s.f.Close() }

// CheckExtension returns the result of KVM_CHECK_EXTENSION: 0 if the host lacks the capability c,
// else 1 or the number that the comment on c describes. Some results may be different for a VM: see
// VM.CheckExtension.
func (s *System) CheckExtension(c Cap) (int, error) {
	return ioctl.Value(s.f, checkExtension, c.number)
}

// Require returns an error if the host lacks any of the given capabilities. For each missing
// capability, the error names the first kernel version that has it. The error matches
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

// SupportedCPUID returns the CPUID leaves that the host and KVM support for a guest
// (KVM_GET_SUPPORTED_CPUID). The caller must adapt them: topology leaves describe the CPU on which
// the calling thread happened to run.
func (s *System) SupportedCPUID() ([]CPUIDEntry, error) {
	arg := cpuid2{header: header{count: maxCPUIDEntries}}
	if _, err := ioctl.Pointer(s.f, getSupportedCPUID, &arg); err != nil {
		return nil, err
	}
	return slices.Clone(arg.entries[:min(arg.count, maxCPUIDEntries)]), nil
}

// CreateVM creates a VM without memory, vCPUs or interrupt controller (KVM_CREATE_VM). The caller
// must call Close.
func (s *System) CreateVM() (*VM, error) {
	mmapSize, err := ioctl.Value(s.f, getVCPUMmapSize, 0)
	if err != nil {
		return nil, err
	}
	fd, err := ioctl.Value(s.f, createVM, 0)
	if err != nil {
		return nil, err
	}
	return &VM{f: os.NewFile(uintptr(fd), "kvm-vm"), mmapSize: mmapSize}, nil
}
