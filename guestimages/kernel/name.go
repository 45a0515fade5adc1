package kernel

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// InputError reports that the user gave a name, a kernel or a modules folder that cannot be used.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// notHereError reports that a kernel is not in the store. Its value is the kernel's name, "" for
// the default kernel.
type notHereError string

func (name notHereError) Error() string {
	if name == "" {
		return "kernel: no default kernel yet: fetch one with minivmm kernel fetch"
	}
	if _, err := parseRequest(string(name)); err != nil {
		return fmt.Sprintf("kernel: %q is not in the store: minivmm kernel list shows its kernels", string(name))
	}
	return fmt.Sprintf("kernel: %q is not in the store: fetch it with minivmm kernel fetch %s", string(name), string(name))
}

func (notHereError) Is(target error) bool { return target == fs.ErrNotExist }

// ambiguous returns the error for a name that matches several kernels.
func ambiguous(name string, found []record) error {
	var short []string
	for _, r := range found {
		short = append(short, r.ID[:shownID])
	}
	return &InputError{fmt.Errorf("kernel: %q matches more than one kernel: %s: use a longer part of the ID", name, strings.Join(short, ", "))}
}

// request is the parsed form of a user's name for a kernel.
type request struct {
	series  string // "6.12", with a flavour; "" if the name is not a series
	flavour string
	pkg     string // the package to fetch; "" if the name is a series
}

// imagePackage is the prefix of the names of Debian's kernel packages.
const imagePackage = "linux-image-"

// parseRequest parses a user's name for a kernel: a series ("6.12", "6.12-cloud", "6.12-amd64"), a
// release or a package. The default flavour of a series is [Cloud].
func parseRequest(name string) (request, error) {
	rest, isPackage := strings.CutPrefix(name, imagePackage)
	series, flavour, _ := strings.Cut(rest, "-")
	// Releases of Debian's kernels start with the upstream version.
	isRelease := regexp.MustCompile(`^[0-9]+\.[0-9]+[a-z0-9+.-]*$`).MatchString(rest)
	isSeries := regexp.MustCompile(`^[0-9]+\.[0-9]+$`).MatchString(series)
	switch {
	case isSeries && flavour == Full:
		return request{series: series, flavour: Full}, nil
	case isSeries && (flavour == "" || flavour == "cloud" || flavour == Cloud):
		return request{series: series, flavour: Cloud}, nil
	case isPackage || isRelease:
		return request{pkg: imagePackage + rest}, nil
	}
	return request{}, &InputError{fmt.Errorf("kernel: %q is not a kernel that can be fetched: want a series like 6.12, a release like "+
		"6.12.117+deb12-cloud-amd64 or a package like linux-image-6.12.117+deb12-cloud-amd64", name)}
}

// matchesSeries reports whether a kernel with the given release belongs to the given series and
// flavour: "6.1.0-50-cloud-amd64" belongs to "6.1" and [Cloud].
func matchesSeries(release, series, flavour string) bool {
	rest, ok := strings.CutPrefix(release, series+".")
	if !ok {
		rest, ok = strings.CutPrefix(release, series+"-")
	}
	if !ok {
		return false
	}
	cloud := strings.HasSuffix(rest, "-"+Cloud)
	full := !cloud && strings.HasSuffix(rest, "-"+Full) && !strings.HasSuffix(rest, "-rt-"+Full)
	return flavour == Cloud && cloud || flavour == Full && full
}

// An ID has wholeID hex digits. Tables and messages show the first shownID digits. A user must give
// at least the first minID digits.
const (
	shownID = 12
	minID   = 6
	wholeID = 64
)

// isIDPrefix reports whether the name could be the beginning of an ID.
func isIDPrefix(name string) bool {
	return len(name) >= minID && len(name) <= wholeID && strings.Trim(name, "0123456789abcdef") == ""
}

// checkOwnName checks the name that a user gives an imported kernel. It rejects a malformed name,
// and a name that could mean another kernel.
func checkOwnName(name string) error {
	switch {
	case !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+._-]{0,63}$`).MatchString(name):
		return &InputError{fmt.Errorf("kernel: name %q: want a letter and up to 63 letters, digits and + . _ -", name)}
	case isIDPrefix(name), strings.HasPrefix(name, imagePackage):
		return &InputError{fmt.Errorf("kernel: name %q looks like an ID or a package: choose another", name)}
	}
	return nil
}
