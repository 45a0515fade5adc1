package kernel

import (
	"errors"
	"testing"
)

func TestNamesOfKernels(t *testing.T) {
	for name, want := range map[string]request{
		"6.12":                       {series: "6.12", flavour: Cloud},
		"6.12-cloud":                 {series: "6.12", flavour: Cloud},
		"6.1-amd64":                  {series: "6.1", flavour: Full},
		"linux-image-6.1-amd64":      {series: "6.1", flavour: Full},
		"linux-image-cloud-amd64":    {pkg: "linux-image-cloud-amd64"},
		"6.12-rt":                    {pkg: "linux-image-6.12-rt"},
		"6.1.0-50-cloud-amd64":       {pkg: "linux-image-6.1.0-50-cloud-amd64"},
		"linux-image-6.1.0-50-amd64": {pkg: "linux-image-6.1.0-50-amd64"},
	} {
		if got, err := parseRequest(name); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "6", "6.", ".1", "6.x", "-cloud", "mine"} {
		var input *InputError
		if got, err := parseRequest(name); !errors.As(err, &input) {
			t.Errorf("%q: got %+v, %v", name, got, err)
		}
	}
}
