package kernel

import (
	"fmt"
	"regexp"
	"strings"
)

// Parse splits a kernel's short name, SERIES or SERIES-cloud ("6.12", "6.1-cloud"), into series and flavour. Without a
// flavour it is the full one, which hosts run.
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

// request is what a user's name for a kernel may mean.
type request struct {
	name    string
	series  string // "6.12", with a flavour; "" if name is not a series
	flavour string
	pkg     string // package to ask for; "" if name is a series
}

// imagePackage is how the names of Debian's kernel packages begin.
const imagePackage = "linux-image-"

// release is how Debian's kernels are called: upstream's version first.
func release() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+\.[0-9]+[a-z0-9+.-]*$`) }

// parseRequest understands a series ("6.12", "6.12-cloud", "6.12-amd64"), for which cloud is the usual flavour, a release and a
// package's name.
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
		return r, &InputError{fmt.Errorf("kernel: %q is none that can be fetched: want a series like 6.12, a release like "+
			"6.12.117+deb12-cloud-amd64 or a package like linux-image-6.12.117+deb12-cloud-amd64", name)}
	}
	return r, nil
}

// matchesSeries reports whether a kernel of that release belongs to the series and flavour: "6.1.0-50-cloud-amd64" to "6.1"
// and [Cloud].
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

// shownID is how much of an ID people see, minID how much of one they must give, in hex digits.
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

// checkOwnName refuses names of imported kernels that could mean something else.
func checkOwnName(name string) error {
	switch {
	case !ownName().MatchString(name):
		return &InputError{fmt.Errorf("kernel: name %q: want a letter and up to 63 letters, digits and + . _ -", name)}
	case isIDPrefix(name), strings.HasPrefix(name, imagePackage):
		return &InputError{fmt.Errorf("kernel: name %q looks like an ID or a package: choose another", name)}
	}
	return nil
}
