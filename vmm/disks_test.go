package vmm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/vmm/config"
)

// TestAutoServesAReadOnlyFileSystem has a disk that vhost-scsi cannot open: "auto" serves it in
// process and notes the reason.
func TestAutoServesAReadOnlyFileSystem(t *testing.T) {
	testenv.Need(t, "vhost-scsi", "root")
	dir := t.TempDir()
	testenv.NeedNil(t, "root", unix.Mount("none", dir, "tmpfs", 0, ""))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "disk.img")
	if err := errors.Join(os.WriteFile(path, make([]byte, 1<<20), 0o600), unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	p, notes := Resolve(&config.Config{Disk: []config.Disk{{Path: config.Path(path), ReadOnly: true, Backend: config.DiskAuto}}})
	if got := p.DiskBackend(); got != config.DiskInProcess || len(notes) != 1 || !strings.Contains(notes[0], path+": read-only file system") {
		t.Errorf("backend %q, notes %q", got, notes)
	}
}

func TestKernelsOnWhichALUNResetCrashesTheHost(t *testing.T) {
	for _, tc := range []struct {
		release string
		disks   int
		safe    bool
	}{
		{"6.1.0-56-amd64", 2, false},
		{"6.1.0-56-amd64", 1, true},
		{"5.10.0", 64, false},
		{"6.3.9", 2, false},
		{"6.4.0-rc1", 2, true},
		{"6.12.117+deb12-amd64", 64, true},
		{"7.0", 2, true},
		{"what", 2, false},
	} {
		if err := lunResetIsSafeOn(tc.release, tc.disks); (err == nil) != tc.safe {
			t.Errorf("%s, %d disks: %v", tc.release, tc.disks, err)
		}
	}
}

func TestKernelsOnWhichCPUMaxDoesNotThrottleWorkers(t *testing.T) {
	const before, since = "6.17.13", "6.18.0-rc1"
	vhost, user := config.Net{ID: "net0", Backend: config.NetVhost}, config.Net{ID: "net1", Backend: config.NetUser}
	kernels, own := config.Disk{Backend: config.DiskVhostSCSI}, config.Disk{Backend: config.DiskInProcess}
	for _, tc := range []struct {
		net     config.Net
		disk    config.Disk
		limits  config.Limits
		release string
		want    string // in the error; "": none
	}{
		{vhost, kernels, config.Limits{CPUMax: 50}, since, "Linux 6.18.0-rc1 does not throttle the kernel's workers of net0, scsi0 ("},
		{vhost, kernels, config.Limits{CPUMax: 50}, before, ""},
		{vhost, own, config.Limits{CPUMax: 50}, "7.3.4+deb13-amd64", "workers of net0 ("},
		{user, kernels, config.Limits{CPUMax: 50}, since, "workers of scsi0 ("},
		{user, own, config.Limits{CPUMax: 50}, since, ""},
		{vhost, kernels, config.Limits{CPUWeight: 50}, since, ""},
		{vhost, own, config.Limits{CPUMax: 50}, "what", "kernel release"},
		{vhost, kernels, config.Limits{}, "what", ""},
	} {
		p := Plan{Config: config.Config{Net: []config.Net{tc.net}, Disk: []config.Disk{tc.disk}, Limits: tc.limits}}
		err := p.cpuMaxHoldsOn(tc.release)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s, %s, %s: %v, want %q", tc.release, tc.net.ID, tc.disk.Backend, err, tc.want)
		}
	}
}
