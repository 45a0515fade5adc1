package kernel

import "testing"

func TestNamesOfKernels(t *testing.T) {
	for name, want := range map[string][2]string{
		"6.12":       {"6.12", Full},
		"6.1":        {"6.1", Full},
		"6.12-cloud": {"6.12", Cloud},
	} {
		series, flavour, err := Parse(name)
		if err != nil || series != want[0] || flavour != want[1] {
			t.Errorf("%s: got %q, %q, %v", name, series, flavour, err)
		}
	}
	for _, name := range []string{"", "6", "6.", ".1", "6.12-rt", "6.x", "-cloud", "6.1.2"} {
		if _, _, err := Parse(name); err == nil {
			t.Errorf("%q was accepted as a kernel", name)
		}
	}
}
