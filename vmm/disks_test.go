package vmm

import "testing"

func TestWhereALUNResetCrashesTheHost(t *testing.T) {
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
