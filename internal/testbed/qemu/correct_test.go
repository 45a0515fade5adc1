package qemu

import (
	"errors"
	"strings"
	"testing"
)

// vmrun has the shape of that code in QEMU 10.0, but is not a copy of it.
const vmrun = `
    switch (event_inj & SVM_EVTINJ_TYPE_MASK) {
    case SVM_EVTINJ_TYPE_INTR:
        cs->exception_index = vector;
        do_interrupt_x86_hardirq(env, vector, 1);
        break;
    case SVM_EVTINJ_TYPE_NMI:
        cs->exception_index = EXCP02_NMI;
        break;
    }
`

func TestCorrectClearsTheIndexAfterTheDelivery(t *testing.T) {
	want := strings.Replace(vmrun, "vector, 1);\n", "vector, 1);\n        cs->exception_index = -1;\n", 1)
	got, err := correct(vmrun)
	if err != nil || got != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
	again, err := correct(got)
	if err != nil || again != got {
		t.Errorf("corrected twice: %v\n%s", err, again)
	}
}

func TestUnknownShapeStopsTheBuild(t *testing.T) {
	for name, text := range map[string]string{
		"no case":         strings.Replace(vmrun, "TYPE_INTR", "TYPE_EXINT", 1),
		"two cases":       vmrun + vmrun,
		"no call":         strings.Replace(vmrun, "do_interrupt_x86_hardirq", "deliver", 1),
		"call after":      strings.Replace(vmrun, "        do_interrupt_x86_hardirq(env, vector, 1);\n        break;", "        break;\n do_interrupt_x86_hardirq(env, vector, 1);", 1),
		"index not set":   strings.Replace(vmrun, "cs->exception_index = vector;", "", 1),
		"more after call": strings.Replace(vmrun, "vector, 1);", "vector, 1);\n done(env);", 1),
		"empty":           "",
	} {
		if got, err := correct(text); !errors.Is(err, errNoPlace) {
			t.Errorf("%s: got %v\n%s", name, err, got)
		}
	}
}
