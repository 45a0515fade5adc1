package net

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/internal/testbed/testenv"
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
		{host | FeatureMrgRxbuf | virtio.FeatureVersion1, 0}, // sending needs no offloads of the tap
		{FeatureGuestCsum, csum},
		{FeatureGuestCsum | FeatureGuestTSO4, csum | tso4},
		{FeatureGuestCsum | FeatureGuestTSO6, csum | tso6},
		{FeatureGuestCsum | FeatureGuestTSO4 | FeatureGuestECN, csum | tso4 | tsoECN},
		{FeatureGuestCsum | FeatureGuestTSO6 | FeatureGuestECN, csum | tso6 | tsoECN},
		{FeatureGuestCsum | FeatureGuestECN, csum}, // ECN needs TSO
		{FeatureGuestCsum | FeatureGuestUSO4 | FeatureGuestUSO6, csum | uso},
		{FeatureGuestCsum | FeatureGuestUSO4, csum}, // both or none
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
	open := func(errno unix.Errno) error {
		return tunHint(&os.PathError{Op: "open", Path: "/dev/net/tun", Err: errno})
	}
	made := func(errno unix.Errno) error { return tapHint("mvm%d", true, errno) }
	given := func(errno unix.Errno) error { return tapHint("tap0", false, errno) }
	for _, tc := range []struct {
		of    func(unix.Errno) error
		errno unix.Errno
		want  string
	}{
		{open, unix.ENOENT, `open /dev/net/tun: no such file or directory: load the module with "modprobe tun"`},
		{open, unix.ENODEV, `modprobe tun`},
		{open, unix.EACCES, `chmod 666 /dev/net/tun`},
		{open, unix.EMFILE, `open /dev/net/tun: too many open files`},
		{made, unix.EPERM, `TUNSETIFF a new tap: operation not permitted: creating a tap requires CAP_NET_ADMIN`},
		{given, unix.EPERM, `change its owner with "ip tuntap add dev tap0 mode tap user USER vnet_hdr"`},
		{given, unix.EBUSY, `another program`},
		{given, unix.EINVAL, `other flags`},
	} {
		if err := tc.of(tc.errno); !errors.Is(err, tc.errno) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %q, want it to contain %q", tc.errno, err, tc.want)
		}
	}
}

// A name that does not belong to a tap is rejected before anything is created: TUNSETIFF would
// create an interface for a misspelled name.
func TestANamedTapMustExist(t *testing.T) {
	_, err := OpenTap(TapConfig{Name: "mvmnosuch0"})
	if !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "ip tuntap add dev mvmnosuch0 mode tap") {
		t.Errorf("a missing tap: %v", err)
	}
	if _, err := OpenTap(TapConfig{Name: "lo"}); err == nil || !strings.Contains(err.Error(), "has type") {
		t.Errorf("the loopback interface: %v", err)
	}
}

func TestClosingATapTwiceIsHarmless(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	tap := &Tap{fds: []int{fd}, name: "x"}
	if err := errors.Join(tap.Close(), tap.Close()); err != nil {
		t.Error(err)
	}
}

// A bridge drops to the smallest MTU of its ports. A tap must not lower it.
func TestATapTakesTheMTUOfItsBridge(t *testing.T) {
	testenv.Need(t, "root", "tun")
	for _, tc := range []struct {
		name               string
		cfg                TapConfig
		tap, guest, bridge int // MTU of the tap, of the guest, of the bridge
	}{
		{"alone", TapConfig{NewName: "mvmtest%d"}, 1500, 1500, 9000},
		{"alone, a smaller one", TapConfig{NewName: "mvmtest%d", MTU: 1400}, 1400, 1400, 9000},
		{"bridge", TapConfig{NewName: "mvmtest%d", Bridge: "br9"}, 9000, 9000, 9000},
		{"bridge, less for the guest", TapConfig{NewName: "mvmtest%d", Bridge: "br9", MTU: 1400}, 9000, 1400, 9000},
		{"bridge, more for the guest", TapConfig{NewName: "mvmtest%d", Bridge: "br9", MTU: 9600}, 9600, 9600, 9000},
		{"given", TapConfig{Name: "given"}, 4000, 4000, 9000},
		{"given, less for the guest", TapConfig{Name: "given", MTU: 1400}, 4000, 1400, 9000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			newHost(t)
			bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br9"}}
			given := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "given", MTU: 4000}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_ONE_QUEUE}
			lan, err := netlink.LinkByName("lan0")
			if err := errors.Join(err, netlink.LinkAdd(bridge), netlink.LinkAdd(given), netlink.LinkSetMTU(given, 4000)); err != nil {
				t.Fatal(err)
			}
			for _, f := range given.Fds {
				f.Close()
			}
			if err := errors.Join(netlink.LinkSetMTU(lan, 9000), netlink.LinkSetMaster(lan, bridge)); err != nil {
				t.Fatal(err)
			}
			tap, err := OpenTap(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			mtu := func(name string) int {
				link, err := netlink.LinkByName(name)
				if err != nil {
					t.Fatal(err)
				}
				return link.Attrs().MTU
			}
			if got := []int{mtu(tap.name), tap.MTU(), mtu("br9")}; !slices.Equal(got, []int{tc.tap, tc.guest, tc.bridge}) {
				t.Errorf("tap, guest, bridge: %v, want %v", got, []int{tc.tap, tc.guest, tc.bridge})
			}
			if err := tap.Close(); err != nil || mtu("br9") != tc.bridge {
				t.Errorf("after closing the tap: %v, bridge %d", err, mtu("br9"))
			}
		})
	}
}
