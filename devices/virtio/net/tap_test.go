package net

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
)

// Names of the bits from linux/if_tun.h.
const (
	csum   = unix.TUN_F_CSUM
	tso4   = unix.TUN_F_TSO4
	tso6   = unix.TUN_F_TSO6
	tsoECN = unix.TUN_F_TSO_ECN
	uso    = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

func TestOffloadsAreWhatTheGuestReceives(t *testing.T) {
	const host = FeatureCsum | FeatureHostTSO4 | FeatureHostTSO6 | FeatureHostECN | FeatureHostUSO
	for _, tc := range []struct {
		f    virtio.Features
		want int
	}{
		{0, 0},
		{host | FeatureMrgRxbuf | virtio.FeatureVersion1, 0}, // what it sends needs nothing
		{FeatureGuestCsum, csum},
		{FeatureGuestCsum | FeatureGuestTSO4, csum | tso4},
		{FeatureGuestCsum | FeatureGuestTSO6, csum | tso6},
		{FeatureGuestCsum | FeatureGuestTSO4 | FeatureGuestECN, csum | tso4 | tsoECN},
		{FeatureGuestCsum | FeatureGuestTSO6 | FeatureGuestECN, csum | tso6 | tsoECN},
		{FeatureGuestCsum | FeatureGuestECN, csum}, // nothing to be congested
		{FeatureGuestCsum | FeatureGuestUSO4 | FeatureGuestUSO6, csum | uso},
		{FeatureGuestCsum | FeatureGuestUSO4, csum}, // only both
		{FeatureGuestCsum | FeatureGuestUSO6, csum},
		{FeatureGuestTSO4 | FeatureGuestTSO6 | FeatureGuestECN | FeatureGuestUSO4 | FeatureGuestUSO6, 0}, // none without checksums
		{^virtio.Features(0), csum | tso4 | tso6 | tsoECN | uso},
	} {
		if got := offloads(tc.f); got != tc.want {
			t.Errorf("features %#x: offloads %#x, want %#x", uint64(tc.f), got, tc.want)
		}
	}
}

func TestTapErrorsSayWhatToDo(t *testing.T) {
	for _, tc := range []struct {
		errno unix.Errno
		hint  string
	}{
		{unix.ENOENT, "modprobe tun"},
		{unix.ENODEV, "modprobe tun"},
		{unix.EPERM, "CAP_NET_ADMIN"},
		{unix.EACCES, "CAP_NET_ADMIN"},
		{unix.EBUSY, "another program"},
		{unix.EINVAL, "other flags"},
	} {
		err := tunHint(&os.PathError{Op: "TUNSETIFF", Path: "tap0", Err: tc.errno})
		if !errors.Is(err, tc.errno) || !strings.Contains(err.Error(), tc.hint) || !strings.HasPrefix(err.Error(), "TUNSETIFF tap0: ") {
			t.Errorf("%v: %q, want it to say %q", tc.errno, err, tc.hint)
		}
	}
	if err := tunHint(&os.PathError{Op: "open", Path: "x", Err: unix.EMFILE}); err.Error() != "open x: too many open files" {
		t.Errorf("%q: a hint that is a guess", err)
	}
}

// A name that is no tap's is refused before anything is made: TUNSETIFF would
// make an interface of a misspelt name.
func TestATapThatIsNamedMustExist(t *testing.T) {
	_, err := OpenTap(TapConfig{Name: "mvmnosuch0"})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "ip tuntap add dev mvmnosuch0 mode tap") {
		t.Errorf("a missing tap: %v", err)
	}
	if _, err := OpenTap(TapConfig{Name: "lo"}); err == nil || !strings.Contains(err.Error(), "lo: is a ") {
		t.Errorf("the loopback interface: %v", err)
	}
}

func TestATapThatIsClosedTwiceIsClosedOnce(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	tap := &Tap{fd: fd, name: "x"}
	if err := errors.Join(tap.Close(), tap.Close()); err != nil {
		t.Error(err)
	}
}
