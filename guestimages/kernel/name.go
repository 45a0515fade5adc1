package kernel

import (
	"fmt"
	"regexp"
	"strings"
)

// Parse splits a kernel's short name, SERIES or SERIES-cloud ("6.12", "6.1-cloud"), into series and
// flavour. The default is the full flavour, which hosts run.
func Parse(name string) (series, flavour string, err error) {
	series, cloud := strings.CutSuffix(name, "-cloud")
	if !isSeries(series) {
		return "", "", fmt.Errorf("kernel: %q is not a kernel: want a series like 6.12 or 6.1, or with its cloud flavour 6.12-cloud", name)
	}
	if cloud {
		return series, Cloud, nil
	}
	return series, Full, nil
}

func isSeries(s string) bool {
	major, minor, ok := strings.Cut(s, ".")
	return ok && isNumber(major) && isNumber(minor)
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// request is the parsed form of a user's name for a kernel.
type request struct {
	name    string
	series  string // "6.12", with a flavour; "" if name is not a series
	flavour string
	pkg     string // the package to fetch; "" if name is a series
}

// imagePackage starts the names of Debian's kernel packages.
const imagePackage = "linux-image-"

// release matches the releases of Debian's kernels, which start with the upstream version.
func release() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+\.[0-9]+[a-z0-9+.-]*$`) }

// parseRequest parses a series ("6.12", "6.12-cloud", "6.12-amd64"), whose default flavour is
// cloud, a release or the name of a package.
func parseRequest(name string) (request, error) {
	r := request{name: name}
	if series, flavour, _ := strings.Cut(strings.TrimPrefix(name, imagePackage), "-"); isSeries(series) {
		r.series = series
		switch flavour {
		case "", "cloud", Cloud:
			r.flavour = Cloud
			return r, nil
		case Full:
			r.flavour = Full
			return r, nil
		}
		r.series = ""
	}
	switch rest, isPackage := strings.CutPrefix(name, imagePackage); {
	case isPackage:
		r.pkg = name
	case release().MatchString(rest):
		r.pkg = imagePackage + name
	default:
		return r, &InputError{fmt.Errorf("kernel: %q is not a kernel that can be fetched: want a series like 6.12, a release like "+
			"6.12.117+deb12-cloud-amd64 or a package like linux-image-6.12.117+deb12-cloud-amd64", name)}
	}
	return r, nil
}

// matchesSeries reports whether a kernel of that release belongs to the series and flavour:
// "6.1.0-50-cloud-amd64" belongs to "6.1" and [Cloud].
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

// shownID is how many hex digits of an ID are displayed, minID how many a user must give at least.
const (
	shownID = 12
	minID   = 6
	wholeID = 64
)

// isIDPrefix reports whether the name could be the beginning of an ID.
func isIDPrefix(name string) bool {
	return len(name) >= minID && len(name) <= wholeID && strings.Trim(name, "0123456789abcdef") == ""
}

func ownName() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+._-]{0,63}$`) }

// checkOwnName rejects names of imported kernels that could have another meaning.
func checkOwnName(name string) error {
	switch {
	case !ownName().MatchString(name):
		return &InputError{fmt.Errorf("kernel: name %q: want a letter and up to 63 letters, digits and + . _ -", name)}
	case isIDPrefix(name), strings.HasPrefix(name, imagePackage):
		return &InputError{fmt.Errorf("kernel: name %q looks like an ID or a package: choose another", name)}
	}
	return nil
}
