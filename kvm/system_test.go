package kvm

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenErrorSaysWhatToDo(t *testing.T) {
	for _, test := range []struct {
		err  error
		cpu  string
		hint string
	}{
		{unix.ENOENT, "flags : fpu svm npt", "modprobe kvm_amd"},
		{unix.ENODEV, "flags : fpu vmx ept", "modprobe kvm_intel"},
		{unix.ENOENT, "flags : fpu", "no hardware virtualization"},
		{unix.EACCES, "flags : fpu svm npt", "usermod -aG kvm"},
		{unix.EMFILE, "flags : fpu svm npt", ""},
	} {
		err := openError(test.err, test.cpu)
		if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.hint) || !strings.HasPrefix(err.Error(), "open /dev/kvm: ") {
			t.Errorf("%v: got %q, want the hint %q", test.err, err, test.hint)
		}
	}
}

func TestMissingCapsAreNamedTogether(t *testing.T) {
	err := missingCaps(DevicePath, []Cap{CapReadonlyMem, CapImmediateExit})
	want := "/dev/kvm lacks KVM_CAP_READONLY_MEM (Linux 3.7), KVM_CAP_IMMEDIATE_EXIT (Linux 4.11): unsupported operation"
	if err == nil || err.Error() != want || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := missingCaps(DevicePath, nil); err != nil {
		t.Errorf("nothing missing: %v", err)
	}
}
